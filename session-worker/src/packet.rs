//! One packet from a socket, with the descriptors that were sent with it.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// Receives a packet of at most `length` bytes with at most three descriptors: the kernel cuts what is more. It has no bytes once the
/// other end is closed.
pub fn receive(socket: impl AsFd, length: usize) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; length];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut into = [IoSliceMut::new(&mut bytes)];
        match recvmsg(&socket, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            received => break received?,
        }
    };
    bytes.truncate(received.bytes);
    let handed = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    Ok((bytes, handed.flatten().collect()))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{IoSlice, Read, Write};

    use rustix::net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
        sendmsg, socketpair,
    };
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    #[test]
    fn a_packet_comes_with_its_descriptors_which_no_program_inherits() {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let (output, input) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        for text in [b"first" as &[u8], b"second"] {
            let handed = [output.as_fd(), input.as_fd()];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(&handed)));
            sendmsg(&theirs, &[IoSlice::new(text)], &mut ancillary, SendFlags::NOSIGNAL).unwrap();
        }
        drop((output, input, theirs));
        for text in ["first", "seco"] {
            let (bytes, handed) = receive(&ours, text.len()).unwrap();
            assert_eq!(String::from_utf8(bytes).unwrap(), text);
            let [mut output, mut input] = <[OwnedFd; 2]>::try_from(handed).unwrap().map(File::from);
            for end in [&output, &input] {
                assert!(rustix::io::fcntl_getfd(end).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
            }
            input.write_all(b"x").unwrap();
            output.read_exact(&mut [0]).unwrap();
        }
        let (bytes, handed) = receive(&ours, 10).unwrap();
        assert!(bytes.is_empty() && handed.is_empty());
    }
}
