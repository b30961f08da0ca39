use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::query::pairs;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn generated(raw: &str) -> Vec<User> {
    let query = Query::parse(&pairs(raw));
    let seed = query.seed.clone().unwrap_or_else(random_seed);
    users(&query, &seed, at("2025-06-01T12:00:00Z"))
}

fn postcode(user: &User) -> &Postcode {
    &user.location.as_ref().unwrap().postcode
}

proptest! {
    #[test]
    fn the_same_seed_page_and_results_give_the_same_users(seed in ".{1,40}", page in 1..=10_000u32, results in 1..20u32) {
        let query = Query {
            page,
            results,
            ..Query::parse(&[("seed".to_owned(), seed.clone())])
        };
        let now = at("2025-06-01T12:00:00Z");
        let first = users(&query, &seed, now);
        prop_assert_eq!(first.len(), results as usize);
        prop_assert_eq!(&first, &users(&query, &seed, now));

        // A longer page begins like a shorter one, and another page has other users.
        let longer = Query { results: results + 5, ..query.clone() };
        prop_assert_eq!(&first[..], &users(&longer, &seed, now)[..results as usize]);
        let other = Query { page: page % 10_000 + 1, ..query };
        let uuids = |users: &[User]| -> BTreeSet<String> {
            users.iter().map(|user| user.login.as_ref().unwrap().uuid.clone()).collect()
        };
        prop_assert!(uuids(&first).is_disjoint(&uuids(&users(&other, &seed, now))));
    }
}

#[test]
fn the_users_of_a_seed_are_the_same_in_every_build() {
    let user = &generated("seed=abc")[0];
    let login = user.login.as_ref().unwrap();
    assert_eq!(login.uuid, "813d707c-a43f-48de-8b46-d8e86b2b7547");
    assert_eq!(user.email.as_deref(), Some("isik.sozeri@example.com"));
}

#[test]
fn a_thousand_users_are_a_thousand_identities_of_every_nationality() {
    let users = generated("seed=abc&results=1000");
    let uuids: BTreeSet<_> = users
        .iter()
        .map(|user| uuid::Uuid::parse_str(&user.login.as_ref().unwrap().uuid).unwrap())
        .collect();
    assert_eq!(uuids.len(), 1_000);
    assert!(uuids.iter().all(|uuid| uuid.get_version_num() == 4));
    let nations: BTreeSet<_> = users.iter().filter_map(|user| user.nat).collect();
    assert_eq!(nations.len(), 21);
}

#[test]
fn an_email_address_is_not_unique() {
    let users = generated("seed=abc&results=5000");
    let emails: BTreeSet<_> = users.iter().map(|user| &user.email).collect();
    assert!(emails.len() < users.len());
    for email in emails.into_iter().flatten() {
        assert!(email.is_ascii() && !email.contains(' '), "{email}");
        assert!(!email.starts_with('.') && !email.contains(".@"), "{email}");
    }
}

#[test]
fn a_postcode_is_text_in_four_countries_and_a_number_in_the_others() {
    for user in generated("seed=abc&results=1000") {
        let text = matches!(postcode(&user), Postcode::Text(_));
        let nat = user.nat.unwrap();
        assert_eq!(text, ["GB", "CA", "NL", "NO"].contains(&nat), "{nat}");
    }
    // Some Norwegian postcodes begin with a zero, which a number would lose.
    let norwegians = generated("seed=abc&nat=no&results=50");
    let zero = |user: &User| matches!(postcode(user), Postcode::Text(text) if text.starts_with('0'));
    assert!(norwegians.iter().any(zero));
}

#[test]
fn four_countries_have_no_identity_number() {
    for user in generated("seed=abc&results=1000") {
        let (id, nat) = (user.id.unwrap(), user.nat.unwrap());
        let without = ["IR", "NZ", "TR", "UA"].contains(&nat);
        assert_eq!(id.name.is_empty(), without, "{nat}");
        assert_eq!(id.value.is_none(), without, "{nat}");
        assert!(!id.value.unwrap_or_default().contains(['#', '?']), "{nat}");
    }
}

#[test]
fn names_are_in_the_script_of_their_country() {
    let letters = |nat: &str, range: std::ops::RangeInclusive<char>| {
        let users = generated(&format!("seed=abc&nat={nat}&results=50"));
        users.iter().all(|user| {
            let name = user.name.as_ref().unwrap();
            name.first.chars().any(|c| range.contains(&c))
        })
    };
    assert!(letters("ir", '\u{600}'..='\u{6ff}'));
    assert!(letters("ua", '\u{400}'..='\u{4ff}'));
    assert!(letters("rs", '\u{400}'..='\u{4ff}'));
    assert!(letters("us", 'A'..='Z'));
}

#[test]
fn hashes_cover_the_password_and_the_salt() {
    let login = generated("seed=abc")[0].login.clone().unwrap();
    let salted = format!("{}{}", login.password, login.salt);
    assert_eq!(login.sha256, format!("{:x}", Sha256::digest(salted)));
    assert_eq!((login.md5.len(), login.sha1.len()), (32, 40));
}

#[test]
fn gender_and_nationality_filter() {
    let women = generated("gender=female&nat=ir,us&results=100");
    for user in women {
        assert_eq!(user.gender, Some("female"));
        assert!(["IR", "US"].contains(&user.nat.unwrap()));
    }
    let seeded = generated("seed=abc&gender=female&results=100");
    assert!(seeded.iter().any(|user| user.gender == Some("male")));
}

#[test]
fn a_hidden_field_does_not_change_the_others() {
    let all = generated("seed=abc&results=20");
    let some = generated("seed=abc&results=20&inc=email,nat");
    for (all, some) in all.iter().zip(&some) {
        assert_eq!((&all.email, all.nat), (&some.email, some.nat));
        assert!(some.login.is_none());
    }
}

#[test]
fn only_the_age_depends_on_the_current_time() {
    let query = Query::parse(&pairs("seed=abc&results=200"));
    let today = users(&query, "abc", at("2025-06-01T12:00:00Z"));
    let mut later = users(&query, "abc", at("2026-06-01T12:00:00Z"));
    assert_ne!(today, later);
    for (today, later) in today.iter().zip(&mut later) {
        let (before, after) = (today.dob.as_ref().unwrap(), later.dob.as_mut().unwrap());
        assert_eq!(after.age, before.age + 1);
        later.dob.clone_from(&today.dob);
        later.registered.clone_from(&today.registered);
        assert_eq!(today, &*later);
    }
}

#[test]
fn an_age_grows_on_the_birthday_at_the_time_of_birth() {
    let born = civil(at("2000-02-29T10:00:00Z"));
    let table = [
        ("2024-02-28T23:59:59Z", 23),
        ("2024-02-29T09:59:59Z", 23),
        ("2024-02-29T10:00:00Z", 24),
        ("2025-02-28T12:00:00Z", 24),
        ("2025-03-01T00:00:00Z", 25),
    ];
    for (now, age) in table {
        assert_eq!(whole_years(born, civil(at(now))), age, "{now}");
    }
}

#[test]
fn dates_have_milliseconds_and_a_z() {
    assert_eq!(
        date_and_age(0, civil(at("1971-01-01T00:00:00Z"))),
        DateAndAge {
            date: "1970-01-01T00:00:00.000Z".into(),
            age: 1
        }
    );
    for user in generated("seed=abc&results=100") {
        let date = user.dob.unwrap().date;
        assert!(date.len() == 24 && date.ends_with('Z'), "{date}");
    }
}

#[test]
fn coordinates_are_text_with_four_decimals() {
    let table = [(0, "0.0000"), (-1, "-0.0001"), (1_799_999, "179.9999"), (-123_456, "-12.3456")];
    for (value, text) in table {
        assert_eq!(degrees(value), text);
    }
}
