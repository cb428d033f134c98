//! Machines as detached processes, each with its run directory and cgroup.
