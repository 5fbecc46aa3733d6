//! The options of a request in which a session that exists differs from it.

use protocol::api::{McpRemoteServerOpts, McpServerOpts, SessionOpts};
use protocol::wire::Agent;

use crate::core::model::options::NUMBERS;
use crate::core::model::spec::Spec;

impl Spec {
    fn has_mcp_server(&self, given: &McpServerOpts) -> bool {
        let Agent::Acp { mcp_servers, .. } = &self.agent else { return false };
        mcp_servers.iter().any(|have| {
            let env = have.env.iter().map(|(name, value)| (name, value)).eq(&given.env);
            // Where its program was found is the manager's.
            have.name == given.name
                && have.args == given.args
                && env
                && have.command.ends_with(&given.command)
        })
    }

    fn has_remote_server(&self, given: &McpRemoteServerOpts) -> bool {
        self.remote_servers.iter().any(|have| {
            let headers = have.headers.iter().map(|(name, value)| (name, value)).eq(&given.headers);
            (&have.name, have.transport, &have.url) == (&given.name, given.transport, &given.url) && headers
        })
    }

    /// Names of the options in `given` that this spec was not made with. An option that is not given agrees
    /// with everything: whoever asks for "the session of this directory" need not repeat how it was started. Name and labels are for
    /// a new session: people change them later.
    pub fn differs_from(&self, given: &SessionOpts) -> Vec<&'static str> {
        fn differs<T: PartialEq>(given: &Option<T>, have: &T) -> bool {
            given.as_ref().is_some_and(|given| given != have)
        }
        let differing = [
            ("title", given.title.is_some() && given.title != self.title),
            ("agent", differs(&given.agent, &self.agent_name)),
            ("model", given.model.is_some() && given.model != self.model),
            ("workdir", differs(&given.workdir, &self.workdir)),
            ("env", given.env.iter().any(|(name, value)| self.env.get(name) != Some(value))),
            ("restart", differs(&given.restart, &self.restart.kind)),
            ("on_crash", differs(&given.on_crash, &self.on_crash)),
            ("conversation", given.conversation.is_some() && given.conversation != self.conversation),
            ("permissions", differs(&given.permissions, &self.permissions.policy)),
            ("mcp_servers", given.mcp_servers.iter().any(|server| !self.has_mcp_server(server))),
            (
                "mcp_remote_servers",
                given.mcp_remote_servers.iter().any(|server| !self.has_remote_server(server)),
            ),
        ];
        let numbers = NUMBERS.iter().map(|number| {
            let (given, held) = ((number.given)(given), (number.held)(self));
            (number.name, given.is_some() && given != held)
        });
        differing.into_iter().chain(numbers).filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}
