//! Who consumes what and what is committed: consumer groups and offsets.
