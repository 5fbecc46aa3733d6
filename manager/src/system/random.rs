//! Random bytes from the kernel, and bytes as hexadecimal digits.

use std::fmt::Write;
use std::io;

/// Random bytes.
///
/// # Errors
/// The kernel gives none.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(bytes)
}

/// Two lower-case digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing into a `String` never fails.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}
