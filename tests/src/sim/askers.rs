//! Requests with keys, and in the names of attached clients.

use std::sync::Arc;

use manager::core::{Ask, Edit, NOBODY, Scope};
use protocol::KeyId;

use super::Sim;

impl Sim {
    /// The same, or with a key, or by an attached client.
    pub(super) fn as_somebody(&mut self, ask: Ask) -> Ask {
        match ask {
            ask @ (Ask::Create { .. }
            | Ask::Ensure { .. }
            | Ask::Fork(_)
            | Ask::Subagent { .. }
            | Ask::Edit(..))
                if self.rng.chance(400) =>
            {
                let key = KeyId(self.rng.between(1, 3));
                let scope = match self.rng.below(5) {
                    0 => Scope::All,
                    4 => Scope::Labels(Arc::new([("team".to_owned(), "1".to_owned())].into())),
                    1 => Scope::Ids(Arc::new(self.some_session().iter().map(|one| one.id.clone()).collect())),
                    _ => Scope::Own(key),
                };
                Ask::ByKey { key, scope, ask: Box::new(ask) }
            }
            ask @ (Ask::Ensure { .. } | Ask::Stop(..) | Ask::Remove(_) | Ask::Edit(..))
                if self.rng.chance(100) =>
            {
                let clients: Vec<_> =
                    self.some_session().iter().flat_map(|one| one.clients.clone()).collect();
                let client = clients.first().map_or(NOBODY, |client| client.id);
                Ask::ByClient { client, ask: Box::new(ask) }
            }
            ask => ask,
        }
    }

    /// A change of what people call a session. Few names, so that they meet each other and ids.
    pub(super) fn some_edit(&mut self) -> Edit {
        let names = ["web", "web-2", "api", "root", "work-0", "named"];
        let name = self.rng.pick(&names).filter(|_| self.rng.chance(800));
        let title = self.rng.pick(&["", "a title"]).filter(|_| self.rng.chance(300));
        let label = self.rng.pick(&["team", "ticket"]).unwrap_or("team").to_owned();
        let value = self.rng.chance(600).then(|| "1".to_owned());
        Edit {
            name: name.and_then(|name| name.parse().ok()),
            title: title.map(str::to_owned),
            labels: [(label, value)].into(),
        }
    }
}
