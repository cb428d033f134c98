//! The brain: model, rules, transactions, planner. Pure.
