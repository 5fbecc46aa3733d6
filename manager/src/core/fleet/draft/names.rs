//! Names in a step of the fleet: each session has one, and no two have the same.

use std::collections::BTreeSet;
use std::sync::Arc;

use protocol::{SessionId, SessionName};

use super::Draft;
use crate::core::fleet::names::{numbered, of_directory};
use crate::core::input::{Edit, Reply};
use crate::core::limits::LABELS;
use crate::core::model::session::Session;
use crate::core::model::spec::Spec;
use crate::core::refusal::{Naming, Refusal};
use crate::core::scope::Scope;

/// The obstacle to a name.
enum Taken {
    /// A session has the name.
    By(SessionId),
    /// A session has it as its id, or had it and was removed.
    AsId,
}

impl Draft<'_> {
    /// The obstacle to this name for the session `id`; none: it can have the name.
    fn taken(&self, name: &SessionName, id: &SessionId) -> Option<Taken> {
        let own = name.as_id() == id;
        if let Some(other) = self.fleet.named(name.as_str()).filter(|other| other.id != *id) {
            return Some(Taken::By(other.id.clone()));
        }
        let as_id = self.get(name.as_id()).is_some() || self.fleet.retired.contains_key(name.as_id());
        (as_id && !own).then_some(Taken::AsId)
    }

    fn check_name(&self, name: &SessionName, id: &SessionId, naming: Naming) -> Result<(), Refusal> {
        match self.taken(name, id) {
            None => Ok(()),
            Some(Taken::By(of)) if !self.by_session && !self.is_hidden(&of) => {
                Err(Refusal::NameTaken { name: name.clone(), of, naming })
            }
            Some(Taken::AsId) if !self.by_session && self.scope == Scope::All => {
                Err(Refusal::NameIsId(name.clone(), naming))
            }
            // Somebody else's is not told.
            Some(Taken::By(_) | Taken::AsId) => Err(Refusal::NameUnusable(name.clone(), naming)),
        }
    }

    /// The name of a new session: the one that was asked for; else the id, if somebody chose it; else one of the directory's.
    ///
    /// # Errors
    /// The name that was asked for is taken, or the id is another session's name.
    pub(super) fn name_for(&self, id: &SessionId, spec: &Spec) -> Result<Option<SessionName>, Refusal> {
        if let Some(other) = self.fleet.named(id.as_str()) {
            return Err(match self.by_session || self.is_hidden(&other.id) {
                true => Refusal::IdUnusable(id.clone()),
                false => Refusal::IdIsName { id: id.clone(), of: other.id.clone() },
            });
        }
        if let Some(name) = &spec.name {
            return self.check_name(name, id, Naming::New).map(|()| Some(name.clone()));
        }
        Ok(self.default_name(id, &spec.workdir, |_| false))
    }

    /// `is_given` are names that this step gives to others.
    fn default_name(
        &self,
        id: &SessionId,
        workdir: &str,
        is_given: impl Fn(&SessionName) -> bool,
    ) -> Option<SessionName> {
        let free = |text: &str| {
            text.parse().map_or(true, |name| self.taken(&name, id).is_none() && !is_given(&name))
        };
        if let Ok(own) = id.as_str().parse::<SessionName>()
            && free(own.as_str())
        {
            return Some(own);
        }
        let directory = of_directory(workdir);
        let base = match id.number() {
            // The next number would tell how many others there are.
            Some(number) if self.by_session || self.scope != Scope::All => format!("{directory}-{number}"),
            Some(_) | None => directory,
        };
        numbered(&base, free).parse().ok()
    }

    /// Names the sessions that have no name of their own: those of a journal of an earlier version, and one whose name became
    /// another's id or name while an earlier version ran on a journal of this one.
    pub(super) fn name_the_nameless(&mut self) {
        let has_none = |session: &&Arc<Session>| {
            session.spec.name.as_ref().is_none_or(|name| self.taken(name, &session.id).is_some())
        };
        let nameless: Vec<_> = self.fleet.sessions().filter(has_none).cloned().collect();
        let mut given = BTreeSet::new();
        for mut session in nameless {
            let name = self.default_name(&session.id, &session.spec.workdir, |name| given.contains(name));
            given.extend(name.clone());
            Arc::make_mut(&mut Arc::make_mut(&mut session).spec).name = name;
            self.changed.insert(session.id.clone(), session);
        }
    }

    /// Changes what people call a session.
    pub(in crate::core::fleet) fn edit(&mut self, id: &SessionId, edit: &Edit) -> Result<Reply, Refusal> {
        let before = self.fleet.expect(id)?;
        self.driven(id)?;
        if let Some(name) = &edit.name {
            self.check_name(name, id, Naming::Rename)?;
        }
        let mut session = before.clone();
        let spec = Arc::make_mut(&mut Arc::make_mut(&mut session).spec);
        spec.name = edit.name.clone().or(spec.name.take());
        match edit.title.as_deref() {
            None => {}
            Some("") => spec.title = None,
            Some(title) => spec.title = Some(title.to_owned()),
        }
        for (label, value) in &edit.labels {
            match value {
                Some(value) => spec.labels.insert(label.clone(), value.clone()),
                None => spec.labels.remove(label),
            };
        }
        if spec.labels.len() > LABELS {
            return Err(Refusal::TooManyLabels { id: id.clone(), limit: LABELS });
        }
        if session.spec == before.spec {
            return Ok(Reply::Done);
        }
        if !self.fleet.is_within(&session, &self.scope) {
            return Err(Refusal::LabelsOfKey(id.clone()));
        }
        self.emit(Some((id, session.incarnation)), session.own_settings());
        self.changed.insert(id.clone(), session);
        Ok(Reply::Done)
    }
}
