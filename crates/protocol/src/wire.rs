//! The primitives of the protocol, for the codecs written by hand: a bounded reader that borrows
//! its frame, and a writer that leaves room for records it never sees.

mod reader;
mod writer;

pub(crate) use reader::Reader;
pub use writer::{Frame, Part};
pub(crate) use writer::{FrameWriter, Writer};
