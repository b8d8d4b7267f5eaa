//! One table of every configuration key.
