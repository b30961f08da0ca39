//! What an expression can call: CEL's standard functions, some of Kubernetes' own, and bounded forms of those whose cost does not
//! follow from the size of their arguments.

use std::sync::Arc;

use cel::{
    Context, DeclarationError, Env, ExecutionError,
    common::{
        traits::Container,
        types::{
            BYTES_TYPE, CelBool, CelBytes, CelList, CelMap, CelNull, CelString, CelTimestamp, DYN_TYPE, LIST_TYPE, MAP_TYPE, NULL_TYPE,
            STRING_TYPE,
        },
        value::{CowVal, Val},
    },
    extensions,
};
use regex::RegexBuilder;

use super::budget;

/// What can be called; the last line is of Kubernetes' own rules, `max` and `min` are ours.
pub const FUNCTIONS: [&str; 30] = [
    "contains",
    "size",
    "max",
    "min",
    "startsWith",
    "endsWith",
    "string",
    "bytes",
    "double",
    "int",
    "uint",
    "matches",
    "duration",
    "timestamp",
    "getFullYear",
    "getMonth",
    "getDayOfYear",
    "getDayOfMonth",
    "getDate",
    "getDayOfWeek",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
    "has", //
    "lowerAscii",
    "upperAscii",
    "trim",
    "replace",
    "split",
];

/// Wraps what a loop goes through. No expression can write a name with `@`.
pub const RANGE: &str = "@range";
/// Wraps a value whose making counts.
pub const SPEND: &str = "@spend";
/// Stands for the macro `has`.
pub const HAS: &str = "@has";
const MATCHES: &str = "@matches";
const REPLACE: &str = "@replace";
const SPLIT: &str = "@split";
const STRING: &str = "@string";

/// The compiled form of a regular expression, in bytes; the library's own bound is 10 MiB. At worst a match costs the product of this
/// and the text.
const MAX_REGEX: usize = 128 << 10;
/// A text that is matched, in bytes.
const MAX_MATCHED: usize = 1 << 20;
/// A regular expression's text, in bytes.
const MAX_PATTERN: usize = 1024;
/// Groups of a regular expression within each other.
const MAX_REGEX_NESTING: u32 = 32;
/// What a part of a split text takes beside its own text.
const PART: usize = 48;

type Answer<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;
/// As the library calls a function.
type Arguments<'b, 'v> = Vec<CowVal<'b, 'v>>;

/// How a function is called. Until 0.15 the library accepted both ways for each; expressions that use the other way keep working.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `f(x)`
    Global,
    /// `x.f()`
    Member,
    Both,
}

pub fn style(function: &str) -> Style {
    match function {
        "string" | "bytes" | "double" | "int" | "uint" | "duration" | "timestamp" | "max" | "min" => Style::Global,
        "size" => Style::Both,
        _ => Style::Member,
    }
}

/// Our own form of a function: its cost does not follow from the size of its arguments, or its result changed with the library.
pub fn own_form(function: &str) -> Option<&'static str> {
    match function {
        "matches" => Some(MATCHES),
        "replace" => Some(REPLACE),
        "split" => Some(SPLIT),
        "string" => Some(STRING),
        _ => None,
    }
}

thread_local! {
    /// What every evaluation starts with.
    pub static BASE: Context<'static, 'static> = context();
    static STANDARD: Env = Env::default().with_optional_support(false).with_stdlib();
}

/// A context with all of them.
fn context() -> Context<'static, 'static> {
    // What is declared is fixed, so a conflict shows in every test.
    let mut context = Context::with_env(Arc::new(env().unwrap_or_default()));
    for (name, function) in [("max", cel::functions::max as fn(_) -> _), ("min", cel::functions::min)] {
        let _ = context.add_function(name, function);
    }
    context
}

fn env() -> Result<Env, DeclarationError> {
    let mut env = Env::default().with_optional_support(false).with_stdlib();
    env.add_extension(extensions::strings)?;
    // https://github.com/cel-rust/cel-rust/releases/tag/v0.15.0 has `contains` of texts only; until then it was of these as well.
    env.add_member_overload("contains", "list_contains", LIST_TYPE, vec![DYN_TYPE], contains)?;
    env.add_member_overload("contains", "map_contains", MAP_TYPE, vec![DYN_TYPE], contains)?;
    env.add_member_overload("contains", "bytes_contains", BYTES_TYPE, vec![BYTES_TYPE], bytes_contain)?;
    env.add_overload(RANGE, RANGE, vec![DYN_TYPE], range)?;
    env.add_overload(HAS, HAS, vec![DYN_TYPE, STRING_TYPE], has)?;
    env.add_overload(SPEND, SPEND, vec![DYN_TYPE], spend)?;
    env.add_overload(MATCHES, "matches", vec![STRING_TYPE, STRING_TYPE], matches)?;
    env.add_member_overload(MATCHES, "string_matches", STRING_TYPE, vec![STRING_TYPE], matches)?;
    env.add_member_overload(REPLACE, "string_replace", STRING_TYPE, vec![STRING_TYPE, STRING_TYPE], replace)?;
    env.add_overload(STRING, STRING, vec![DYN_TYPE], string)?;
    env.add_member_overload(SPLIT, "string_split", STRING_TYPE, vec![STRING_TYPE], split)?;
    Ok(env)
}

/// The argument at a place, of a type that the overload has declared.
macro_rules! argument {
    ($arguments:ident, $at:expr, $type:ty) => {
        $arguments
            .get($at)
            .and_then(|value| value.downcast_ref::<$type>())
            .ok_or_else(|| ExecutionError::invalid_argument_count($at + 1, $arguments.len()))?
    };
}

/// Goes through a map by its keys' order: a hash map has another one each time, so that unchanged items would get new versions. CEL leaves
/// the order open (https://github.com/google/cel-spec/blob/master/doc/langdef.md#macros). An exceeded budget ends every loop.
fn range<'b, 'v>(mut arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    if budget::is_exceeded() {
        return Ok(CowVal::owned(CelList::from(Vec::new())));
    }
    let Some(map) = arguments.first().and_then(|value| value.downcast_ref::<CelMap>()) else {
        return arguments.pop().ok_or_else(ExecutionError::missing_argument_or_target);
    };
    let mut keys: Vec<_> = map.inner().keys().cloned().collect();
    keys.sort_unstable();
    let keys: Vec<Box<dyn Val + 'v>> = keys.iter().map(|key| key.inner().clone_as_boxed()).collect();
    Ok(CowVal::owned(CelList::from(keys)))
}

fn spend<'b, 'v>(mut arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let value = arguments.pop().ok_or_else(ExecutionError::missing_argument_or_target)?;
    budget::spend(budget::size(value.as_ref()))?;
    Ok(value)
}

/// Whether an object has a member. What is no object has none: to the library since 0.15 that is an error, and before it was not, so that
/// items with `null` in place of an object would be rejected.
fn has<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let member = argument!(arguments, 1, CelString);
    let found = match arguments.first().and_then(|value| value.downcast_ref::<CelMap>()) {
        Some(map) => map.contains(member)?,
        None => false,
    };
    Ok(CowVal::owned(CelBool::from(found)))
}

fn contains<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let [whole, part] = arguments.as_slice() else {
        return Err(ExecutionError::invalid_argument_count(2, arguments.len()));
    };
    let found = match whole.as_container() {
        Some(container) => container.contains(part.as_ref())?,
        None => return Err(ExecutionError::missing_argument_or_target()),
    };
    Ok(CowVal::owned(CelBool::from(found)))
}

fn bytes_contain<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let (whole, part) = (argument!(arguments, 0, CelBytes).inner(), argument!(arguments, 1, CelBytes).inner());
    let found = memchr::memmem::find(whole, part).is_some();
    Ok(CowVal::owned(CelBool::from(found)))
}

/// Regular expressions can come from an item: `item.text.matches(item.pattern)`.
fn matches<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let (text, pattern) = (
        argument!(arguments, 0, CelString).inner(),
        argument!(arguments, 1, CelString).inner(),
    );
    budget::spend(0)?;
    if pattern.len() > MAX_PATTERN || text.len() > MAX_MATCHED {
        return Err(ExecutionError::function_error(
            "matches",
            "the regular expression or the text is too long",
        ));
    }
    let regex = RegexBuilder::new(pattern)
        .size_limit(MAX_REGEX)
        .dfa_size_limit(MAX_REGEX)
        .nest_limit(MAX_REGEX_NESTING)
        .build()
        .map_err(|error| ExecutionError::function_error("matches", error))?;
    Ok(CowVal::owned(CelBool::from(regex.is_match(text))))
}

/// A time keeps its offset, as before 0.15, which writes it in UTC: stored values and keys must not change.
fn string<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    if let Some(time) = arguments.first().and_then(|value| value.downcast_ref::<CelTimestamp>()) {
        return Ok(CowVal::owned(CelString::from(time.inner().to_rfc3339())));
    }
    match STANDARD.with(|standard| standard.find_overload("string", &arguments)) {
        Some(string) => string(arguments),
        None if arguments.first().is_some_and(|value| value.downcast_ref::<CelNull>().is_some()) => {
            Err(ExecutionError::no_such_overload("string", vec![NULL_TYPE.name().to_owned()]))
        }
        None => Err(ExecutionError::function_error("string", "a value of this type has no text")),
    }
}

/// The result may be larger than both: it is counted before it is made.
fn replace<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let text = argument!(arguments, 0, CelString).inner();
    let (old, new) = (
        argument!(arguments, 1, CelString).inner(),
        argument!(arguments, 2, CelString).inner(),
    );
    budget::spend(text.len().saturating_add(text.matches(old).count().saturating_mul(new.len())))?;
    Ok(CowVal::owned(CelString::from(text.replace(old, new))))
}

fn split<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let (text, by) = (
        argument!(arguments, 0, CelString).inner(),
        argument!(arguments, 1, CelString).inner(),
    );
    let parts = text.matches(by).count().saturating_add(1);
    budget::spend(text.len().saturating_add(parts.saturating_mul(PART)))?;
    let parts = text
        .split(by)
        .map(|part| Box::new(CelString::from(part.to_owned())) as Box<dyn Val + 'v>);
    Ok(CowVal::owned(CelList::from(parts.collect::<Vec<_>>())))
}
