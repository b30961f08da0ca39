//! The stand-in source's other side: what it served, and faults on request. A seed is a world of its own.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cluster::host;

/// Every user that was served for a seed, by id; in the order of first service.
pub async fn served_users(seed: &str) -> Result<Vec<Value>> {
    let pages: Value = get("/admin/served", &[("seed", seed)]).await?;
    let mut users: Vec<Value> = Vec::new();
    let mut known = std::collections::HashSet::new();
    let mut asked = std::collections::HashSet::new();
    for page in pages["served"]
        .as_array()
        .or(pages.as_array())
        .context("a list of what was served")?
    {
        let (number, results) = (page["page"].to_string(), page["results"].to_string());
        if !asked.insert((number.clone(), results.clone())) {
            continue;
        }
        let body = get("/admin/users", &[("seed", seed), ("page", &number), ("results", &results)]).await?;
        for user in body["results"].as_array().context("users")? {
            if known.insert(user["login"]["uuid"].to_string()) {
                users.push(user.clone());
            }
        }
    }
    Ok(users)
}

/// How the source misbehaves from now on, for one seed.
pub async fn set_fault(fault: &Value) -> Result<()> {
    reqwest::Client::new()
        .put(format!("{}/admin/fault", host::SOURCE))
        .json(fault)
        .send()
        .await?
        .error_for_status()?;
    Ok(())
}

/// The source behaves again.
pub async fn clear_fault(seed: &str) -> Result<()> {
    reqwest::Client::new()
        .delete(format!("{}/admin/fault", host::SOURCE))
        .query(&[("seed", seed)])
        .send()
        .await?
        .error_for_status()?;
    Ok(())
}

/// Counts of requests and faults for a seed.
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
