//! Plans by example, by property, and carried out against an API server in memory.

mod fake_api;
mod manager;
mod plans;
mod policies;
mod rollouts;
