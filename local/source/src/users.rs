//! The users of a seed and a page. The n-th user depends on these and on n alone, so a longer page begins like a shorter one.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use uuid::Builder;

use crate::{
    dice::Dice,
    names::{self, Nation, any_nation},
    query::{Field, Gender, Query},
    user::{Coordinates, Id, Location, Login, Moment, Name, Picture, Postcode, Street, Timezone, User},
};

// The moments which the real API uses as the ends of its ranges, in milliseconds.
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

/// The users that a query gives.
pub(crate) fn users(query: &Query, seed: &str, now: Timestamp) -> Vec<User> {
    let now = civil(now);
    (0..query.results).map(|index| user(query, seed, index, now)).collect()
}

fn user(query: &Query, seed: &str, index: u32, now: DateTime) -> User {
    let (uuid, mut dice) = beginnings(seed, query.page, index);
    let dice = &mut dice;

    // Every value is made in every case: what is shown or filtered changes no other value's dice.
    let nation = nation(query, dice);
    let rolled = [Gender::Male, Gender::Female][dice.index(2)];
    let gender = query.gender.unwrap_or(rolled);
    let name = name(nation, gender, dice);
    let location = location(nation, dice);
    let email = email(&name);
    let login = login(uuid, dice);
    let born = dice.signed(OLDEST_BIRTH, END - TWENTY_ONE_YEARS);
    let registered = dice.signed(FIRST_REGISTRATION, END);
    let phone = dice.fill(nation.phone);
    let cell = dice.fill(nation.cell);
    let id = id(nation, instant(born), dice);
    let picture = picture(gender, dice);

    let show = &query.fields;
    User {
        gender: show.keep(Field::Gender, gender.as_str()),
        name: show.keep(Field::Name, name),
        location: show.keep(Field::Location, location),
        email: show.keep(Field::Email, email),
        login: show.keep(Field::Login, login),
        dob: show.keep(Field::Dob, moment(born, now)),
        registered: show.keep(Field::Registered, moment(registered, now)),
        phone: show.keep(Field::Phone, phone),
        cell: show.keep(Field::Cell, cell),
        id: show.keep(Field::Id, id),
        picture: show.keep(Field::Picture, picture),
        nat: show.keep(Field::Nat, nation.code),
    }
}

/// The identity of a user, and the dice for all the rest.
fn beginnings(seed: &str, page: u32, index: u32) -> (String, Dice) {
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
    (uuid.to_string(), Dice::new(u64::from_be_bytes(start)))
}

fn nation(query: &Query, dice: &mut Dice) -> &'static Nation {
    if query.nations.is_empty() {
        &names::NATIONS[dice.index(names::NATIONS.len())]
    } else {
        dice.pick(&query.nations)
    }
}

fn name(nation: &Nation, gender: Gender, dice: &mut Dice) -> Name {
    let swiss = nation.code == "CH";
    let (title, first) = match gender {
        Gender::Male if swiss => ("Monsieur", dice.pick(nation.male)),
        Gender::Male => ("Mr", dice.pick(nation.male)),
        Gender::Female if swiss => (dice.pick(&["Mademoiselle", "Madame"]), dice.pick(nation.female)),
        Gender::Female => (dice.pick(any_nation::TITLES), dice.pick(nation.female)),
    };
    Name {
        title,
        first,
        last: dice.pick(nation.last),
    }
}

fn location(nation: &Nation, dice: &mut Dice) -> Location {
    let (offset, description) = any_nation::TIMEZONES[dice.index(any_nation::TIMEZONES.len())];
    Location {
        street: Street {
            number: dice.between(1, 9_999),
            name: dice.pick(nation.streets),
        },
        city: dice.pick(nation.cities),
        state: dice.pick(nation.states),
        country: nation.country,
        postcode: match &nation.postcode {
            names::Postcode::Number(low, high) => Postcode::Number(dice.between(*low, *high)),
            names::Postcode::Text(patterns) => {
                let pattern = dice.pick(patterns);
                Postcode::Text(dice.fill(pattern))
            }
        },
        coordinates: Coordinates {
            latitude: degrees(dice.signed(-900_000, 900_000)),
            longitude: degrees(dice.signed(-1_800_000, 1_800_000)),
        },
        timezone: Timezone { offset, description },
    }
}

/// Ten-thousandths of a degree as text.
fn degrees(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let value = value.unsigned_abs();
    format!("{sign}{}.{:04}", value / 10_000, value % 10_000)
}

/// From the name alone, in Latin letters: so it is not unique.
fn email(name: &Name) -> String {
    let local = deunicode::deunicode_with_tofu(&format!("{}.{}", name.first, name.last), "");
    format!("{}@example.com", local.replace(' ', "").to_lowercase())
}

fn login(uuid: String, dice: &mut Dice) -> Login {
    const SALT: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let adjective = dice.pick(any_nation::ADJECTIVES);
    let animal = dice.pick(any_nation::ANIMALS);
    let username = format!("{adjective}{animal}{}", dice.between(100, 999));
    let password = dice.pick(any_nation::PASSWORDS);
    let salt = dice.text(SALT, 8);
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

fn id(nation: &Nation, born: Timestamp, dice: &mut Dice) -> Id {
    let Some((name, pattern)) = nation.id else {
        return Id { name: "", value: None };
    };
    let born = civil(born);
    let pattern = pattern
        .replace("DD", &format!("{:02}", born.day()))
        .replace("MM", &format!("{:02}", born.month()))
        .replace("YY", &format!("{:02}", born.year().rem_euclid(100)));
    Id {
        name,
        value: Some(dice.fill(&pattern)),
    }
}

fn picture(gender: Gender, dice: &mut Dice) -> Picture {
    let (who, last) = match gender {
        Gender::Male => ("men", 99),
        Gender::Female => ("women", 96),
    };
    let file = format!("{who}/{}.jpg", dice.between(0, last));
    Picture {
        large: format!("https://randomuser.me/api/portraits/{file}"),
        medium: format!("https://randomuser.me/api/portraits/med/{file}"),
        thumbnail: format!("https://randomuser.me/api/portraits/thumb/{file}"),
    }
}

fn moment(milliseconds: i64, now: DateTime) -> Moment {
    let then = instant(milliseconds);
    Moment {
        date: format!("{then:.3}"),
        age: years(civil(then), now),
    }
}

/// Whole years, down to the time of the day.
fn years(then: DateTime, now: DateTime) -> i16 {
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
#[path = "users_tests.rs"]
mod tests;
