//! Calls: requests of the agent that a client can answer in the place of the worker.

use serde::{Deserialize, Serialize};

/// A kind of request of the agent that a client can answer instead of the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum Offer {
    /// The client reads text files, with the changes that an editor has not saved.
    #[serde(rename = "fs.read")]
    ReadFile,
    /// The client writes text files.
    #[serde(rename = "fs.write")]
    WriteFile,
    /// The client runs commands.
    #[serde(rename = "terminal")]
    Terminal,
    /// The client asks its user a question of the agent.
    #[serde(rename = "elicitation")]
    Elicitation,
}

impl Offer {
    /// All offers.
    pub const ALL: [Offer; 4] = [Offer::ReadFile, Offer::WriteFile, Offer::Terminal, Offer::Elicitation];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Offer::ReadFile => "fs.read",
            Offer::WriteFile => "fs.write",
            Offer::Terminal => "terminal",
            Offer::Elicitation => "elicitation",
        }
    }

    /// Returns the offer that an ACP method needs; `None` if no client may answer the method.
    pub fn of(method: &str) -> Option<Self> {
        match method {
            "fs/read_text_file" => Some(Offer::ReadFile),
            "fs/write_text_file" => Some(Offer::WriteFile),
            "elicitation/create" => Some(Offer::Elicitation),
            _ if method.starts_with("terminal/") => Some(Offer::Terminal),
            _ => None,
        }
    }
}

/// Answer to a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallAnswer {
    /// The client has answered with a result.
    Result {
        /// The result: a JSON text.
        json: String,
    },
    /// The client has answered with an error.
    Error {
        /// The error: a JSON object with `code` and `message`.
        json: String,
    },
    /// No client was asked.
    NotAsked {
        /// Reason, for a person.
        reason: String,
    },
    /// A client was asked and has not answered. It may have carried out the request.
    GivenUp {
        /// Reason, for a person.
        reason: String,
    },
}
