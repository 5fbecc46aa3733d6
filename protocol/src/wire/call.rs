//! Calls: requests of the agent that a client can answer in the place of the worker.

use serde::{Deserialize, Serialize};

/// Something that a client can do for the agent, in the place of the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum Offer {
    /// It reads text files: what an editor has and has not saved is part of them.
    #[serde(rename = "fs.read")]
    ReadFile,
    /// It writes text files.
    #[serde(rename = "fs.write")]
    WriteFile,
    /// It runs commands.
    #[serde(rename = "terminal")]
    Terminal,
    /// It asks its user for what the agent wants to know.
    #[serde(rename = "elicitation")]
    Elicitation,
}

impl Offer {
    /// All of them.
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

    /// What it takes to answer a method of ACP; none where a client is never asked.
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

/// What has become of something that a client was to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallAnswer {
    /// It was done.
    Result {
        /// What came of it: a JSON text.
        json: String,
    },
    /// The client could not do it.
    Error {
        /// Why: a JSON object with `code` and `message`.
        json: String,
    },
    /// No client was asked.
    NotAsked {
        /// Why, for a person.
        reason: String,
    },
    /// A client was asked, may have done it, and has not answered.
    GivenUp {
        /// Why, for a person.
        reason: String,
    },
}
