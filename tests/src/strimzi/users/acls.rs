//! The ACLs of a `KafkaUser`, as Kafka has them.

use crate::strimzi::{
    broker_admin::{Acl, Pattern, Permission, ResourceType, operation_code},
    resources::{AclRule, AclRuleType, UserSpec},
};

/// All of them, or why they are refused. Those on the cluster are left out: they would take the cluster from every other story, and
/// without any, everybody has it.
pub(super) fn desired(spec: &UserSpec, principal: &str, prefix: &str) -> Result<Vec<Acl>, String> {
    let mut acls = Vec::new();
    for rule in spec.authorization.iter().flat_map(|authorization| &authorization.acls) {
        acls.extend(of_rule(rule, principal, prefix)?);
    }
    acls.sort();
    acls.dedup();
    Ok(acls)
}

fn of_rule(rule: &AclRule, principal: &str, prefix: &str) -> Result<Vec<Acl>, String> {
    let resource = match rule.resource.kind.as_str() {
        "topic" => ResourceType::Topic,
        "group" => ResourceType::Group,
        "transactionalId" => ResourceType::TransactionalId,
        "cluster" => return Ok(Vec::new()),
        other => return Err(format!("no such type of resource: {other}")),
    };
    let name = rule.resource.name.clone().unwrap_or_default();
    if !name.starts_with(prefix) {
        return Err(format!(
            "the stand-in grants only what begins with {prefix}, not the {resource:?} {name}"
        ));
    }
    let acl = |operation: &String| {
        let operation = operation_code(operation).ok_or_else(|| format!("no such operation: {operation}"))?;
        Ok(Acl {
            resource,
            name: name.clone(),
            pattern: match rule.resource.pattern_type.as_deref() {
                Some("prefix") => Pattern::Prefixed,
                _ => Pattern::Literal,
            },
            principal: principal.to_owned(),
            host: rule.host.clone().unwrap_or_else(|| "*".to_owned()),
            operation,
            permission: match rule.kind {
                AclRuleType::Allow => Permission::Allow,
                AclRuleType::Deny => Permission::Deny,
            },
        })
    };
    rule.operations.iter().map(acl).collect()
}

/// Closes everything with this prefix to whoever is not granted it, as authorization does in a Strimzi cluster. The Kafka of the local
/// cluster lets everybody use what has no ACL, so one ACL for a user who does not exist suffices.
pub(in crate::strimzi) fn fence(prefix: &str) -> Vec<Acl> {
    let acl = |resource| Acl {
        resource,
        name: prefix.to_owned(),
        pattern: Pattern::Prefixed,
        principal: format!("User:nobody-of-{prefix}"),
        host: "*".to_owned(),
        operation: operation_code("Describe").unwrap_or_default(),
        permission: Permission::Allow,
    };
    [ResourceType::Topic, ResourceType::Group, ResourceType::TransactionalId]
        .map(acl)
        .into()
}

#[cfg(test)]
#[path = "acls_tests.rs"]
mod tests;
