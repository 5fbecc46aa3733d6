//! Values of `config.toml`: how each is written, and its bounds.

use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::{Component, Path};

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer};

use super::super::bounds;
use super::super::cgroup_root::CgroupRoot;
use super::super::lookup::shown;
use crate::core::options::{Row, Unit};

/// A value as the file has it.
pub(in crate::config) enum Written<'a> {
    Whole(i64),
    Decimal(f64),
    Text(&'a str),
    /// `true`, `false`, a date, a list or a table.
    Other,
}

/// Reason for which a written value is refused.
pub(in crate::config) enum Wrong {
    /// The value is of another kind. Holds what the key takes, with an example.
    Form(&'static str),
    /// The value is out of bounds. Holds the bounds, for a person.
    Bounds(String),
}

/// A kind of value and its bounds.
pub(in crate::config) trait Bound {
    /// The value, as the rest of kennel uses it.
    type Value: Clone + fmt::Debug;

    /// Reads a written value and checks its bounds.
    fn check(written: Written<'_>) -> Result<Self::Value, Wrong>;
}

/// A value that is within its bounds: they are checked while the file is read, so that a complaint names the line.
pub(in crate::config) struct Within<B: Bound>(B::Value);

impl<B: Bound> Within<B> {
    /// The value, where the file has one.
    pub(in crate::config) fn value(of: &Option<Self>) -> Option<B::Value> {
        of.as_ref().map(|Self(value)| value.clone())
    }
}

impl<B: Bound> Clone for Within<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B: Bound> fmt::Debug for Within<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de, B: Bound> Deserialize<'de> for Within<B> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Visitor::<B>(PhantomData)).map(Self)
    }
}

struct Visitor<B>(PhantomData<B>);

impl<B: Bound> Visitor<B> {
    fn take<E: de::Error>(&self, written: Written<'_>, found: de::Unexpected<'_>) -> Result<B::Value, E> {
        B::check(written).map_err(|wrong| match wrong {
            Wrong::Form(_) => E::invalid_value(found, self),
            Wrong::Bounds(what) => E::custom(what),
        })
    }
}

impl<B: Bound> de::Visitor<'_> for Visitor<B> {
    type Value = B::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match B::check(Written::Other) {
            Err(Wrong::Form(expected)) => f.write_str(expected),
            _ => f.write_str("another value"),
        }
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<B::Value, E> {
        self.take(Written::Whole(number), de::Unexpected::Signed(number))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<B::Value, E> {
        self.take(Written::Decimal(number), de::Unexpected::Float(number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<B::Value, E> {
        self.take(Written::Text(text), de::Unexpected::Str(text))
    }
}

/// One of a few words.
#[derive(Clone, Debug)]
pub(in crate::config) struct OneOf<T>(pub(in crate::config) T);

impl<T: Copy> OneOf<T> {
    /// The word, where the file has one.
    pub(in crate::config) fn value(of: &Option<Self>) -> Option<T> {
        of.as_ref().map(|Self(value)| *value)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for OneOf<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Words(PhantomData)).map(Self)
    }
}

struct Words<T>(PhantomData<T>);

impl<T: DeserializeOwned> de::Visitor<'_> for Words<T> {
    type Value = T;

    /// The names are those that the refusal of an empty word lists.
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused = T::deserialize(StrDeserializer::<de::value::Error>::new("")).err();
        let message = refused.map(|error| error.to_string()).unwrap_or_default();
        let names: Vec<String> =
            message.split('`').skip(3).step_by(2).map(|name| format!("\"{name}\"")).collect();
        match names.split_last() {
            Some((last, [])) => f.write_str(last),
            Some((last, others)) => write!(f, "{} or {last}", others.join(", ")),
            None => f.write_str("a word in quotes"),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::deserialize(StrDeserializer::new(text))
    }
}

/// Milliseconds, from a text that humantime reads, or from 0 or `"never"`.
fn duration(written: Written<'_>) -> Result<u64, Wrong> {
    let millis = match written {
        Written::Whole(0) | Written::Text("never") => Some(0),
        Written::Text(text) => {
            humantime::parse_duration(text).ok().and_then(|duration| duration.as_millis().try_into().ok())
        }
        _ => None,
    };
    millis.ok_or(Wrong::Form("a duration with its unit, like \"90s\", \"4h\" or \"2h 30m\""))
}

/// A kind of number. Its largest is beyond every bound.
trait Most: TryFrom<i64> {
    const MOST: Self;
}

impl Most for u32 {
    const MOST: Self = Self::MAX;
}

impl Most for u64 {
    const MOST: Self = Self::MAX;
}

impl Most for usize {
    const MOST: Self = Self::MAX;
}

/// A whole number. One that does not fit is out of bounds, as the largest is.
fn number<T: Most>(written: &Written<'_>) -> Option<T> {
    match written {
        Written::Whole(number) => Some(T::try_from(*number).unwrap_or(T::MOST)),
        _ => None,
    }
}

/// A small number.
fn few<T: Most>(written: Written<'_>) -> Result<T, Wrong> {
    number(&written).ok_or(Wrong::Form("a whole number without quotes, like 5"))
}

/// A number that may be large.
fn many<T: Most>(written: Written<'_>) -> Result<T, Wrong> {
    number(&written).ok_or(Wrong::Form("a whole number without quotes, like 1024"))
}

/// Bytes.
fn size(written: Written<'_>) -> Result<u64, Wrong> {
    match written {
        Written::Text(text) => bounds::size(text).map_err(Wrong::Bounds),
        Written::Whole(bytes) if bytes >= 0 => Ok(bytes.unsigned_abs()),
        _ => Err(Wrong::Form("a size, like \"512M\" or \"2G\"")),
    }
}

fn octal(written: Written<'_>) -> Result<u32, Wrong> {
    match written {
        Written::Text(text) => bounds::umask(text).map_err(Wrong::Bounds),
        _ => Err(Wrong::Form("three or four octal digits in quotes, like \"022\"")),
    }
}

/// Thousandths of a processor.
fn processors(written: Written<'_>) -> Result<u32, Wrong> {
    let number = match written {
        Written::Whole(number) => number as f64,
        Written::Decimal(number) => number,
        _ => return Err(Wrong::Form("a number of processors without quotes, like 1.5")),
    };
    bounds::cpus(number).map_err(Wrong::Bounds)
}

fn cgroup_root(written: Written<'_>) -> Result<CgroupRoot, Wrong> {
    match written {
        Written::Text("auto") => Ok(CgroupRoot::Auto),
        Written::Text("none") => Ok(CgroupRoot::None),
        Written::Text(root) => {
            if root.contains('\0') || !root.starts_with('/') || root.split('/').any(|part| part == "..") {
                let shown = shown(root, 100);
                let what = format!("`auto`, `none` or an absolute path without `..`, not {shown}");
                return Err(Wrong::Bounds(what));
            }
            Ok(CgroupRoot::At(root.to_owned()))
        }
        _ => Err(Wrong::Form("\"auto\", \"none\" or an absolute path in quotes")),
    }
}

/// An option of a session: its row has the unit and the bounds.
impl<R: Row> Bound for R {
    type Value = R::Value;

    fn check(written: Written<'_>) -> Result<R::Value, Wrong> {
        let number = match R::NUMBER.unit {
            Unit::One if *R::NUMBER.bounds.end() > 1000 => many(written)?,
            Unit::One => few(written)?,
            Unit::Millis => duration(written)?,
            Unit::Bytes => size(written)?,
            Unit::Thousandths => processors(written)?.into(),
        };
        R::NUMBER.check(number).map_err(Wrong::Bounds)?;
        R::Value::try_from(number).map_err(|_| Wrong::Bounds(R::NUMBER.wrong.to_owned()))
    }
}

/// Makes a [`Bound`] of how a value is written, and of what its bounds are.
macro_rules! bounded {
    ($($name:ident($value:ty) = $written:ident within $bounds:expr;)*) => {$(
        pub(in crate::config) enum $name {}

        impl Bound for $name {
            type Value = $value;

            fn check(written: Written<'_>) -> Result<$value, Wrong> {
                let value: $value = $written(written)?;
                let bounds: fn($value) -> Result<(), String> = $bounds;
                bounds(value.clone()).map(|()| value).map_err(Wrong::Bounds)
            }
        }
    )*};
}

bounded! {
    Root(CgroupRoot) = cgroup_root within |_| Ok(());
    MostConnections(usize) = many within bounds::connections;
    HttpTimeout(u64) = duration within bounds::http_timeout;
    MaxAge(u64) = duration within bounds::max_age;
    MaxSize(u64) = size within bounds::max_size;
    RetentionEvery(u64) = duration within bounds::retention_every;
    SpareWorkers(usize) = few within bounds::spare_workers;
    StallTimeout(u64) = duration within bounds::stall_timeout;
    StartTimeout(u64) = duration within bounds::start_timeout;
    SubagentDepth(u32) = few within bounds::subagent_depth;
    Subagents(u32) = few within bounds::subagents;
    Umask(u32) = octal within bounds::umask_number;
    WorkerTimeout(u64) = duration within bounds::worker_timeout;
}

/// An absolute path, or one that begins with `~/`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(in crate::config) struct HomePath(pub(in crate::config) String);

impl TryFrom<String> for HomePath {
    type Error = String;

    fn try_from(path: String) -> Result<Self, String> {
        let leads_up = Path::new(&path).components().any(|part| part == Component::ParentDir);
        if path.contains('\0') || path.len() > 4096 || leads_up {
            return Err(format!("a path has at most 4096 bytes, no NUL and no `..`: {}", shown(&path, 100)));
        }
        match path.starts_with('/') || path.starts_with("~/") {
            true => Ok(Self(path)),
            false => Err(format!("a path is absolute or begins with `~/`: {}", shown(&path, 100))),
        }
    }
}

/// Addresses to listen on: one in quotes, or a list of them.
#[derive(Clone, Debug, Default)]
pub(in crate::config) struct Addresses(pub(in crate::config) Vec<SocketAddr>);

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AddressVisitor).map(Self)
    }
}

struct AddressVisitor;

impl AddressVisitor {
    fn one<E: de::Error>(text: &str) -> Result<SocketAddr, E> {
        bounds::listen_address(text).map_err(E::custom)
    }
}

impl<'de> de::Visitor<'de> for AddressVisitor {
    type Value = Vec<SocketAddr>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address with its port in quotes, like \"0.0.0.0:7443\", or a list of them")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Self::one(text).map(|one| vec![one])
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(text) = from.next_element::<String>()? {
            all.push(Self::one(&text)?);
            if all.len() > bounds::LISTEN_ADDRESSES {
                let most = bounds::LISTEN_ADDRESSES;
                return Err(de::Error::custom(format!("a daemon listens on at most {most} addresses")));
            }
        }
        Ok(all)
    }
}

/// A name or an address by which clients reach the daemon.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(in crate::config) struct HostName(pub(in crate::config) String);

impl TryFrom<String> for HostName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        bounds::host_name(&name).map(|()| Self(name.to_ascii_lowercase()))
    }
}

/// The name of an environment variable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(in crate::config) struct EnvName(pub(in crate::config) String);

impl TryFrom<String> for EnvName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        bounds::env_name(&name).map(|()| Self(name))
    }
}

/// The value of an environment variable.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(in crate::config) struct EnvValue(pub(in crate::config) String);

impl TryFrom<String> for EnvValue {
    type Error = &'static str;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        if value.contains('\0') { Err("a variable's value has no NUL in it") } else { Ok(Self(value)) }
    }
}

/// The name of a model.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(in crate::config) struct Model(pub(in crate::config) String);

impl TryFrom<String> for Model {
    type Error = String;

    fn try_from(model: String) -> Result<Self, String> {
        bounds::model(&model).map(|()| Self(model))
    }
}
