//! Access control lists.

use anyhow::{Context, Result};

use super::{
    connection::{BrokerAdmin, Header},
    message::{Reader, Writer, check},
};

const DESCRIBE_ACLS: (i16, i16) = (29, 1);
const CREATE_ACLS: (i16, i16) = (30, 1);
const DELETE_ACLS: (i16, i16) = (31, 1);
const ANY: i8 = 1;

/// The operations, at the place of their codes.
const OPERATIONS: [&str; 13] = [
    "Unknown",
    "Any",
    "All",
    "Read",
    "Write",
    "Create",
    "Delete",
    "Alter",
    "Describe",
    "ClusterAction",
    "DescribeConfigs",
    "AlterConfigs",
    "IdempotentWrite",
];

/// The code of an operation by the name that Kafka and Strimzi give it.
pub fn operation_code(name: &str) -> Option<i8> {
    let place = OPERATIONS.iter().position(|operation| *operation == name)?;
    i8::try_from(place).ok().filter(|code| *code > ANY)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i8)]
pub enum ResourceType {
    Topic = 2,
    Group = 3,
    TransactionalId = 5,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i8)]
pub enum Pattern {
    Literal = 3,
    Prefixed = 4,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i8)]
pub enum Permission {
    Deny = 2,
    Allow = 3,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acl {
    pub resource: ResourceType,
    pub name: String,
    pub pattern: Pattern,
    /// With its type: `User:…`.
    pub principal: String,
    pub host: String,
    pub operation: i8,
    pub permission: Permission,
}

impl Acl {
    fn write(&self, to: &mut Writer) -> Result<()> {
        to.i8(self.resource as i8).string(&self.name)?.i8(self.pattern as i8);
        to.string(&self.principal)?.string(&self.host)?;
        to.i8(self.operation).i8(self.permission as i8);
        Ok(())
    }
}

/// What Kafka has and these tests never write is skipped.
fn acl(kind: i8, name: String, pattern: i8, (principal, host, operation, permission): (String, String, i8, i8)) -> Option<Acl> {
    Some(Acl {
        resource: match kind {
            2 => ResourceType::Topic,
            3 => ResourceType::Group,
            5 => ResourceType::TransactionalId,
            _ => return None,
        },
        name,
        pattern: match pattern {
            3 => Pattern::Literal,
            4 => Pattern::Prefixed,
            _ => return None,
        },
        principal,
        host,
        operation,
        permission: if permission == 2 { Permission::Deny } else { Permission::Allow },
    })
}

impl BrokerAdmin {
    /// All ACLs on topics, groups and transactional ids; with a principal, only those of it.
    pub async fn acls(&mut self, principal: Option<&str>) -> Result<Vec<Acl>> {
        let mut filter = Writer::default();
        filter
            .i8(ANY)
            .nullable(None)?
            .i8(ANY)
            .nullable(principal)?
            .nullable(None)?
            .i8(ANY)
            .i8(ANY);
        let answer = self.request(DESCRIBE_ACLS, Header::Plain, &filter).await?;
        let mut answer = Reader(&answer);
        let _throttled = answer.i32()?;
        check("reading ACLs", answer.i16()?, &answer.string()?)?;
        let mut found = Vec::new();
        for _ in 0..answer.length()? {
            let (kind, name, pattern) = (answer.i8()?, answer.string()?, answer.i8()?);
            for _ in 0..answer.length()? {
                let rule = (answer.string()?, answer.string()?, answer.i8()?, answer.i8()?);
                found.extend(acl(kind, name.clone(), pattern, rule));
            }
        }
        Ok(found)
    }

    pub async fn create_acls(&mut self, acls: &[Acl]) -> Result<()> {
        if acls.is_empty() {
            return Ok(());
        }
        let mut request = Writer::default();
        request.length(acls.len())?;
        for acl in acls {
            acl.write(&mut request)?;
        }
        let answer = self.request(CREATE_ACLS, Header::Plain, &request).await?;
        self::results(&answer, acls, "creating")
    }

    /// Those that do not exist are no error.
    pub async fn delete_acls(&mut self, acls: &[Acl]) -> Result<()> {
        if acls.is_empty() {
            return Ok(());
        }
        let mut request = Writer::default();
        request.length(acls.len())?;
        for acl in acls {
            // A filter that is full of values has the form of an ACL.
            acl.write(&mut request)?;
        }
        let answer = self.request(DELETE_ACLS, Header::Plain, &request).await?;
        let mut answer = Reader(&answer);
        let _throttled = answer.i32()?;
        for acl in acls.iter().take(answer.length()?) {
            check(&format!("deleting {acl:?}"), answer.i16()?, &answer.string()?)?;
            for _ in 0..answer.length()? {
                let _deleted = (answer.i16()?, answer.string()?, answer.i8()?, answer.string()?, answer.i8()?);
                let _rule = (answer.string()?, answer.string()?, answer.i8()?, answer.i8()?);
            }
        }
        Ok(())
    }
}

fn results(answer: &[u8], acls: &[Acl], what: &str) -> Result<()> {
    let mut answer = Reader(answer);
    let _throttled = answer.i32()?;
    for place in 0..answer.length()? {
        let acl = acls.get(place).context("an answer for each ACL")?;
        check(&format!("{what} {acl:?}"), answer.i16()?, &answer.string()?)?;
    }
    Ok(())
}
