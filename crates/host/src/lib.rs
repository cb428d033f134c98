//! This machine: observe it, do one step on it; for real and simulated.
