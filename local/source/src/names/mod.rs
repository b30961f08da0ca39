//! The nationalities of the API and their words: a file each.
//!
//! In a pattern `#` is a digit and `?` a capital letter; in an identity number `DD`, `MM` and `YY` come from the day of birth.

pub(crate) mod any_nation;
mod au;
mod br;
mod ca;
mod ch;
mod de;
mod dk;
mod es;
mod fi;
mod fr;
mod gb;
mod ie;
mod india;
mod ir;
mod mx;
mod nl;
mod no;
mod nz;
mod rs;
mod tr;
mod ua;
mod us;

/// What users of one nationality are made of.
#[derive(Debug)]
pub(crate) struct Nation {
    pub(crate) code: &'static str,
    pub(crate) country: &'static str,
    pub(crate) male: &'static [&'static str],
    pub(crate) female: &'static [&'static str],
    pub(crate) last: &'static [&'static str],
    pub(crate) streets: &'static [&'static str],
    pub(crate) cities: &'static [&'static str],
    pub(crate) states: &'static [&'static str],
    pub(crate) phone: &'static str,
    pub(crate) cell: &'static str,
    /// Name and pattern of the identity number; `None` is `{"name":"","value":null}`.
    pub(crate) id: Option<(&'static str, &'static str)>,
    pub(crate) postcode: Postcode,
}

/// A postcode is an integer in most countries and text in some.
#[derive(Debug)]
pub(crate) enum Postcode {
    Number(u64, u64),
    Text(&'static [&'static str]),
}

/// All nationalities, by code.
pub(crate) static NATIONS: [Nation; 21] = [
    au::NATION,
    br::NATION,
    ca::NATION,
    ch::NATION,
    de::NATION,
    dk::NATION,
    es::NATION,
    fi::NATION,
    fr::NATION,
    gb::NATION,
    ie::NATION,
    india::NATION,
    ir::NATION,
    mx::NATION,
    nl::NATION,
    no::NATION,
    nz::NATION,
    rs::NATION,
    tr::NATION,
    ua::NATION,
    us::NATION,
];

/// The nationality of a code, in upper or lower case.
pub(crate) fn find(code: &str) -> Option<&'static Nation> {
    NATIONS.iter().find(|nation| nation.code.eq_ignore_ascii_case(code))
}
