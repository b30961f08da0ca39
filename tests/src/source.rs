//! A client of the stand-in source's admin API: served users, and faults. Tests are separated by their seeds.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cluster::host;

/// The distinct users that were served for a seed, in the order in which they were first served.
pub async fn served_users(seed: &str) -> Result<Vec<Value>> {
    let pages: Value = get("/admin/served", &[("seed", seed)]).await?;
    let mut users: Vec<Value> = Vec::new();
    let mut known_users = std::collections::HashSet::new();
    let mut known_pages = std::collections::HashSet::new();
    for page in pages["served"]
        .as_array()
        .or(pages.as_array())
        .context("a list of what was served")?
    {
        let (number, results) = (page["page"].to_string(), page["results"].to_string());
        if !known_pages.insert((number.clone(), results.clone())) {
            continue;
        }
        let body = get("/admin/users", &[("seed", seed), ("page", &number), ("results", &results)]).await?;
        for user in body["results"].as_array().context("users")? {
            if known_users.insert(user["login"]["uuid"].to_string()) {
                users.push(user.clone());
            }
        }
    }
    Ok(users)
}

/// See the README of the stand-in source.
pub async fn set_fault(fault: &Value) -> Result<()> {
    reqwest::Client::new()
        .put(format!("{}/admin/fault", host::SOURCE))
        .json(fault)
        .send()
        .await?
        .error_for_status()?;
    Ok(())
}

pub async fn clear_fault(seed: &str) -> Result<()> {
    reqwest::Client::new()
        .delete(format!("{}/admin/fault", host::SOURCE))
        .query(&[("seed", seed)])
        .send()
        .await?
        .error_for_status()?;
    Ok(())
}

/// The counters of a seed.
pub async fn requests(seed: &str) -> Result<Value> {
    get("/admin/requests", &[("seed", seed)]).await
}

async fn get(path: &str, query: &[(&str, &str)]) -> Result<Value> {
    Ok(reqwest::Client::new()
        .get(format!("{}{path}", host::SOURCE))
        .query(query)
        .send()
        .await?
        .error_for_status()?
        .json()
        .await?)
}
