//! The requests for files that a worker has not answered yet.

use std::collections::BTreeMap;

use protocol::wire::FilesAnswer;
use tokio::sync::oneshot;

use crate::error::Error;
use crate::shares::Sender;

/// The most requests that one worker has not answered yet.
pub(super) const OPEN: usize = 8;

/// The most of them that one sender may have who is not the owner.
const EACH: usize = OPEN / 2;

/// The receiver of an answer.
pub type FilesReply = oneshot::Sender<Result<FilesAnswer, Error>>;

/// The requests for files that one worker has not answered yet.
#[derive(Default)]
pub(super) struct OpenFiles {
    replies: BTreeMap<u64, (Sender, FilesReply)>,
}

impl OpenFiles {
    /// Takes the receiver of an answer. Gives it back if too many wait.
    pub(super) fn open(&mut self, request: u64, sender: Sender, reply: FilesReply) -> Result<(), FilesReply> {
        let all = self.waiting();
        let own = self.replies.values().filter(|(other, _)| *other == sender).count();
        if all >= OPEN || sender != Sender::Owner && own >= EACH {
            return Err(reply);
        }
        self.replies.insert(request, (sender, reply));
        Ok(())
    }

    /// The number of requests whose answers somebody waits for.
    pub(super) fn waiting(&mut self) -> usize {
        // Those of clients that have gone count for nothing.
        self.replies.retain(|_, (_, reply)| !reply.is_closed());
        self.replies.len()
    }

    /// Hands an answer to its receiver. One that nobody waits for is dropped: an earlier manager has asked.
    pub(super) fn answer(&mut self, request: u64, answer: FilesAnswer) {
        if let Some((_, reply)) = self.replies.remove(&request) {
            // The client may have gone.
            let _ = reply.send(Ok(answer));
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::wire::FilesRefusal;

    use super::*;

    fn refused() -> FilesAnswer {
        FilesAnswer::Refused { why: FilesRefusal::Busy, message: String::new() }
    }

    #[test]
    fn so_many_wait_and_no_more_and_who_has_gone_makes_room() {
        let mut open = OpenFiles::default();
        let mut waiting: Vec<_> = (0..OPEN as u64)
            .map(|number| {
                let (reply, answer) = oneshot::channel();
                assert!(open.open(number, Sender::Owner, reply).is_ok());
                answer
            })
            .collect();
        assert!(open.open(100, Sender::Owner, oneshot::channel().0).is_err());
        // Nobody asked for this one, and this one is answered.
        open.answer(77, refused());
        open.answer(0, refused());
        assert_eq!(waiting[0].try_recv().unwrap(), Ok(refused()));
        let (reply, _answer) = oneshot::channel();
        assert!(open.open(101, Sender::Owner, reply).is_ok());
        waiting.truncate(2);
        let (reply, _other) = oneshot::channel();
        assert!(open.open(102, Sender::Owner, reply).is_ok());
    }

    #[test]
    fn one_sender_leaves_room_for_others() {
        let mut open = OpenFiles::default();
        let mut waiting = Vec::new();
        let mut asks = |number, sender: Sender| {
            let (reply, answer) = oneshot::channel();
            waiting.push(answer);
            open.open(number, sender, reply).is_ok()
        };
        let key = |number| Sender::Key(protocol::KeyId(number));
        assert!((0..4).all(|number| asks(number, key(1))) && !asks(4, key(1)));
        assert!((5..9).all(|number| asks(number, key(2))) && !asks(9, Sender::Owner));
    }
}
