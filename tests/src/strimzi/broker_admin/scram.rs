//! SCRAM users.

use std::num::NonZeroU32;

use anyhow::Result;
use aws_lc_rs::pbkdf2;

use super::{
    connection::{BrokerAdmin, Header},
    message::{Reader, Writer, check},
};

const DESCRIBE_USERS: (i16, i16) = (50, 0);
const ALTER_USERS: (i16, i16) = (51, 0);
const SHA_512: i8 = 2;
/// The fewest that Kafka accepts.
const ITERATIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4095);
/// The user has no such password.
const RESOURCE_NOT_FOUND: i16 = 91;

impl BrokerAdmin {
    /// Creates a user of SCRAM-SHA-512, or changes the password.
    pub async fn set_password(&mut self, user: &str, password: &str) -> Result<()> {
        let salt = uuid::Uuid::new_v4().into_bytes();
        let mut salted = [0; 64];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, ITERATIONS, &salt, password.as_bytes(), &mut salted);
        let mut request = Writer::default();
        request.compact_length(Some(0)).compact_length(Some(1));
        request.compact(user.as_bytes()).i8(SHA_512).i32(i32::try_from(ITERATIONS.get())?);
        request.compact(&salt).compact(&salted).no_tags().no_tags();
        self.alter(&request, &[]).await
    }

    /// One that does not exist is no error.
    pub async fn delete_user(&mut self, user: &str) -> Result<()> {
        let mut request = Writer::default();
        request.compact_length(Some(1));
        request.compact(user.as_bytes()).i8(SHA_512).no_tags();
        request.compact_length(Some(0)).no_tags();
        self.alter(&request, &[RESOURCE_NOT_FOUND]).await
    }

    async fn alter(&mut self, request: &Writer, accepted: &[i16]) -> Result<()> {
        let answer = self.request(ALTER_USERS, Header::Tagged, request).await?;
        let mut answer = Reader(&answer);
        let _throttled = answer.i32()?;
        for _ in 0..answer.compact_length()? {
            let (user, code, message) = (answer.compact_string()?, answer.i16()?, answer.compact_string()?);
            if !accepted.contains(&code) {
                check(&format!("the password of {user}"), code, &message)?;
            }
            answer.tags()?;
        }
        Ok(())
    }

    /// The names of all users with a password.
    pub async fn users(&mut self) -> Result<Vec<String>> {
        let mut request = Writer::default();
        request.compact_length(None).no_tags();
        let answer = self.request(DESCRIBE_USERS, Header::Tagged, &request).await?;
        let mut answer = Reader(&answer);
        let _throttled = answer.i32()?;
        check("reading users", answer.i16()?, &answer.compact_string()?)?;
        let mut users = Vec::new();
        for _ in 0..answer.compact_length()? {
            let (user, code, message) = (answer.compact_string()?, answer.i16()?, answer.compact_string()?);
            check(&format!("reading {user}"), code, &message)?;
            for _ in 0..answer.compact_length()? {
                let _credential = (answer.i8()?, answer.i32()?);
                answer.tags()?;
            }
            answer.tags()?;
            users.push(user);
        }
        Ok(users)
    }
}
