//! How a topic's log is agreed on: leader, follower, ISR, HW, LEO.
