//! Generates the users of a seed and a page. The n-th user depends on these and on n alone, so a longer page begins like a shorter one.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use uuid::Builder;

use crate::{
    nations::{self, ANY_NATION, Nation, PostcodeRule},
    query::{Field, Gender, Query},
    random::SplitMix64,
    user::{Coordinates, DateAndAge, Id, Location, Login, Name, Picture, Postcode, Street, Timezone, User},
};

// The bounds that the real API uses, in milliseconds since 1970.
const OLDEST_BIRTH: i64 = -800_000_000_000;
const FIRST_REGISTRATION: i64 = 1_016_688_461_000;
const END: i64 = 1_653_344_189_000;
const TWENTY_ONE_YEARS: i64 = 86_400_000 * 365 * 21;

/// A seed for a request that has none: 16 hexadecimal digits.
pub(crate) fn random_seed() -> String {
    let mut seed = uuid::Uuid::new_v4().simple().to_string();
    seed.truncate(16);
    seed
}

pub(crate) fn users(query: &Query, seed: &str, now: Timestamp) -> Vec<User> {
    let now = civil(now);
    (0..query.results).map(|index| user(query, seed, index, now)).collect()
}

fn user(query: &Query, seed: &str, index: u32, now: DateTime) -> User {
    let (uuid, mut random) = identity_and_random(seed, query.page, index);
    let random = &mut random;

    // Every value is generated in every case, so a filter or a hidden field does not change the random numbers of the others.
    let nation = nation(query, random);
    let random_gender = *random.choose(&[Gender::Male, Gender::Female]);
    let gender = query.gender.unwrap_or(random_gender);
    let name = name(nation, gender, random);
    let location = location(nation, random);
    let email = email(&name);
    let login = login(uuid, random);
    let born = random.signed_between(OLDEST_BIRTH, END - TWENTY_ONE_YEARS);
    let registered = random.signed_between(FIRST_REGISTRATION, END);
    let phone = random.fill_pattern(&nation.phone);
    let cell = random.fill_pattern(&nation.cell);
    let id = id(nation, instant(born), random);
    let picture = picture(gender, random);

    let fields = &query.fields;
    User {
        gender: fields.show(Field::Gender, gender.as_str()),
        name: fields.show(Field::Name, name),
        location: fields.show(Field::Location, location),
        email: fields.show(Field::Email, email),
        login: fields.show(Field::Login, login),
        dob: fields.show(Field::Dob, date_and_age(born, now)),
        registered: fields.show(Field::Registered, date_and_age(registered, now)),
        phone: fields.show(Field::Phone, phone),
        cell: fields.show(Field::Cell, cell),
        id: fields.show(Field::Id, id),
        picture: fields.show(Field::Picture, picture),
        nat: fields.show(Field::Nat, &nation.code),
    }
}

/// The uuid of a user, and the random numbers for everything else.
fn identity_and_random(seed: &str, page: u32, index: u32) -> (String, SplitMix64) {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(seed)
        .chain_update([0])
        .chain_update(page.to_be_bytes())
        .chain_update(index.to_be_bytes())
        .finalize()
        .into();
    let (mut identity, mut start) = ([0; 16], [0; 8]);
    identity.copy_from_slice(&digest[..16]);
    start.copy_from_slice(&digest[16..24]);
    let uuid = Builder::from_random_bytes(identity).into_uuid();
    (uuid.to_string(), SplitMix64::new(u64::from_be_bytes(start)))
}

fn nation(query: &Query, random: &mut SplitMix64) -> &'static Nation {
    if query.nations.is_empty() {
        random.choose(&nations::NATIONS)
    } else {
        let nation: &&'static Nation = random.choose(&query.nations);
        nation
    }
}

fn name(nation: &'static Nation, gender: Gender, random: &mut SplitMix64) -> Name {
    let is_swiss = nation.code == "CH";
    let (title, first) = match gender {
        Gender::Male if is_swiss => ("Monsieur", random.word(&nation.male)),
        Gender::Male => ("Mr", random.word(&nation.male)),
        Gender::Female if is_swiss => (*random.choose(&["Mademoiselle", "Madame"]), random.word(&nation.female)),
        Gender::Female => (random.word(&ANY_NATION.titles), random.word(&nation.female)),
    };
    Name {
        title,
        first,
        last: random.word(&nation.last),
    }
}

fn location(nation: &'static Nation, random: &mut SplitMix64) -> Location {
    let timezone = random.choose(&ANY_NATION.timezones);
    Location {
        street: Street {
            number: random.between(1, 9_999),
            name: random.word(&nation.streets),
        },
        city: random.word(&nation.cities),
        state: random.word(&nation.states),
        country: &nation.country,
        postcode: match &nation.postcode {
            PostcodeRule::Range { low, high } => Postcode::Number(random.between(*low, *high)),
            PostcodeRule::Patterns(patterns) => {
                let pattern = random.choose(patterns);
                Postcode::Text(random.fill_pattern(pattern))
            }
        },
        coordinates: Coordinates {
            latitude: degrees(random.signed_between(-900_000, 900_000)),
            longitude: degrees(random.signed_between(-1_800_000, 1_800_000)),
        },
        timezone: Timezone {
            offset: &timezone.offset,
            description: &timezone.description,
        },
    }
}

/// Formats ten-thousandths of a degree.
fn degrees(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let value = value.unsigned_abs();
    format!("{sign}{}.{:04}", value / 10_000, value % 10_000)
}

/// Derived from the name alone, in Latin letters, so it is not unique.
fn email(name: &Name) -> String {
    let local = deunicode::deunicode_with_tofu(&format!("{}.{}", name.first, name.last), "");
    format!("{}@example.com", local.replace(' ', "").to_lowercase())
}

fn login(uuid: String, random: &mut SplitMix64) -> Login {
    const SALT: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let adjective = random.word(&ANY_NATION.adjectives);
    let animal = random.word(&ANY_NATION.animals);
    let username = format!("{adjective}{animal}{}", random.between(100, 999));
    let password = random.word(&ANY_NATION.passwords);
    let salt = random.ascii_text(SALT, 8);
    let salted = format!("{password}{salt}");
    Login {
        uuid,
        username,
        password,
        md5: format!("{:x}", Md5::digest(&salted)),
        sha1: format!("{:x}", Sha1::digest(&salted)),
        sha256: format!("{:x}", Sha256::digest(&salted)),
        salt,
    }
}

fn id(nation: &'static Nation, born: Timestamp, random: &mut SplitMix64) -> Id {
    let Some(number) = &nation.id else {
        return Id { name: "", value: None };
    };
    let born = civil(born);
    let pattern = number
        .pattern
        .replace("DD", &format!("{:02}", born.day()))
        .replace("MM", &format!("{:02}", born.month()))
        .replace("YY", &format!("{:02}", born.year().rem_euclid(100)));
    Id {
        name: &number.name,
        value: Some(random.fill_pattern(&pattern)),
    }
}

fn picture(gender: Gender, random: &mut SplitMix64) -> Picture {
    let (folder, last) = match gender {
        Gender::Male => ("men", 99),
        Gender::Female => ("women", 96),
    };
    let file = format!("{folder}/{}.jpg", random.between(0, last));
    Picture {
        large: format!("https://randomuser.me/api/portraits/{file}"),
        medium: format!("https://randomuser.me/api/portraits/med/{file}"),
        thumbnail: format!("https://randomuser.me/api/portraits/thumb/{file}"),
    }
}

fn date_and_age(milliseconds: i64, now: DateTime) -> DateAndAge {
    let then = instant(milliseconds);
    DateAndAge {
        date: format!("{then:.3}"),
        age: whole_years(civil(then), now),
    }
}

/// A year is complete at the time of day of `then`.
fn whole_years(then: DateTime, now: DateTime) -> i16 {
    let in_year = |at: DateTime| (at.month(), at.day(), at.time());
    now.year() - then.year() - i16::from(in_year(now) < in_year(then))
}

fn instant(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or_default()
}

fn civil(at: Timestamp) -> DateTime {
    TimeZone::UTC.to_datetime(at)
}

#[cfg(test)]
#[path = "generate_tests.rs"]
mod tests;
