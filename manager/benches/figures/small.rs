//! The child of the floor: an ordinary small program, which writes one byte and waits for the end of its input. Is built by
//! `floor.rs`, by itself.

use std::io::{Write, copy, sink, stdin, stdout};

fn main() {
    stdout().write_all(b"1").and_then(|()| stdout().flush()).unwrap();
    copy(&mut stdin(), &mut sink()).unwrap();
}
