//! The life of a `KafkaUser`.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use rdkafka::{
    ClientConfig,
    producer::{FutureProducer, FutureRecord},
    types::RDKafkaErrorCode as Code,
};
use serde_json::{Value, json};
use userpipeline_tests::{
    World, eventually, stores,
    strimzi::{
        Installation, KafkaResource,
        resources::{self, CLUSTER_LABEL, Condition, KafkaUser},
    },
    world::SOON,
};

const CLUSTER: &str = "kafka";
const TIMEOUT: Duration = Duration::from_secs(10);

struct Users {
    world: World,
    api: Api<KafkaUser>,
    api_version: String,
}

impl Users {
    async fn of(world: &World) -> Result<Self> {
        Ok(Self {
            world: world.clone(),
            api: resources::users(&world.client, &world.namespace).await?,
            api_version: resources::resource(&world.client, "KafkaUser").await?.api_version,
        })
    }

    fn named(&self, name: &str) -> String {
        format!("{}-{name}", self.world.namespace)
    }

    /// Applies a user of the cluster, who may write to a topic.
    async fn apply(&self, name: &str, authentication: Value, topic: &str) -> Result<()> {
        let acl = json!({"resource": {"type": "topic", "name": topic}, "operations": ["Write", "Describe"]});
        let cluster = json!({"resource": {"type": "cluster"}, "operations": ["Describe"]});
        let user = json!({
            "apiVersion": self.api_version, "kind": "KafkaUser",
            "metadata": {"name": self.named(name), "labels": {CLUSTER_LABEL: CLUSTER}},
            "spec": {
                "authentication": authentication,
                "authorization": {"type": "simple", "acls": [acl, cluster]},
                "template": {"secret": {"metadata": {"labels": {"team": "users"}, "annotations": {"note": "rotate"}}}}
            }
        });
        let by = PatchParams::apply("end-to-end").force();
        self.api.patch(&self.named(name), &by, &Patch::Apply(user)).await?;
        Ok(())
    }

    /// Waits until the status of the current spec has this condition, which is True.
    async fn reported(&self, name: &str, kind: &str) -> Result<(KafkaUser, Condition)> {
        eventually(&format!("{kind} of {name}"), SOON, async || {
            let user = self.api.get(&self.named(name)).await?;
            let status = user.status.clone().unwrap_or_default();
            let found = status
                .conditions
                .iter()
                .find(|condition| condition.kind == kind && condition.status == "True");
            Ok(match found {
                Some(found) if status.observed_generation == user.metadata.generation => Ok((user.clone(), found.clone())),
                _ => Err(format!("{status:?}")),
            })
        })
        .await
    }

    async fn secret(&self, name: &str) -> Result<(Secret, BTreeMap<String, String>)> {
        let secret = self.world.api::<Secret>().get(&self.named(name)).await?;
        let data = secret.data.clone().unwrap_or_default().into_iter();
        let data = data
            .map(|(key, value)| Ok((key, String::from_utf8(value.0)?)))
            .collect::<Result<_>>()?;
        Ok((secret, data))
    }

    /// A client with a password.
    async fn client(&self, name: &str, password: &str) -> Result<ClientConfig> {
        let mut config = stores::kafka_config().await?;
        config.set("sasl.username", self.named(name)).set("sasl.password", password);
        Ok(config)
    }
}

/// A client with a certificate.
async fn client_with(world: &World, files: &BTreeMap<String, String>) -> Result<ClientConfig> {
    let nodes = Api::<Node>::all(world.client.clone()).list(&ListParams::default()).await?;
    let mut addresses = nodes
        .items
        .into_iter()
        .flat_map(|node| node.status.and_then(|status| status.addresses).unwrap_or_default());
    let node = addresses
        .find(|address| address.type_ == "InternalIP")
        .context("the node's address")?
        .address;
    let mut config = stores::kafka_config().await?;
    for login in ["sasl.mechanism", "sasl.username", "sasl.password"] {
        config.remove(login);
    }
    config
        .set("bootstrap.servers", format!("{node}:30096"))
        .set("security.protocol", "SSL")
        .set("ssl.certificate.pem", &files["user.crt"])
        .set("ssl.key.pem", &files["user.key"]);
    Ok(config)
}

/// Writes one message. Gives the broker's refusal, if any.
async fn write(config: &ClientConfig, topic: &str) -> Result<Option<Code>> {
    let mut config = config.clone();
    config.set("message.timeout.ms", TIMEOUT.as_millis().to_string());
    let producer: FutureProducer = config.create()?;
    match producer
        .send(FutureRecord::<str, str>::to(topic).key("k").payload("v"), TIMEOUT)
        .await
    {
        Ok(_) => Ok(None),
        Err((error, _)) => Ok(Some(error.rdkafka_error_code().context("a code")?)),
    }
}

/// Waits until writing has this result.
async fn writes(config: &ClientConfig, topic: &str, expected: Option<Code>) -> Result<()> {
    eventually(&format!("{expected:?} when writing to {topic}"), SOON, async || {
        let found = write(config, topic).await?;
        Ok(if found == expected { Ok(()) } else { Err(format!("{found:?}")) })
    })
    .await
}

/// The user's topic, and another one of the story.
async fn create_topics(world: &World) -> Result<(String, String)> {
    let (own, other) = (format!("{}.own", world.namespace), format!("{}.other", world.namespace));
    let admin = stores::kafka_admin().await?;
    admin.create(&own, 1, 1, &BTreeMap::new()).await?;
    admin.create(&other, 1, 1, &BTreeMap::new()).await?;
    Ok((own, other))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_a_password_may_use_only_what_is_granted() -> Result<()> {
    // Given a Strimzi and two topics
    let world = World::without_secrets("user-password").await?;
    let strimzi = Installation::start(&world, CLUSTER).await?;
    let (users, (own, other)) = (Users::of(&world).await?, create_topics(&world).await?);

    // When a user is applied, Then there is a Secret that belongs to it, and the status has its name
    users.apply("app", json!({"type": "scram-sha-512"}), &own).await?;
    let (user, _) = users.reported("app", "Ready").await?;
    let status = user.status.clone().unwrap_or_default();
    let named = users.named("app");
    assert_eq!((status.username.as_ref(), status.secret.as_ref()), (Some(&named), Some(&named)));
    let (secret, data) = users.secret("app").await?;
    assert_eq!(
        secret.owner_references().iter().map(|owner| Some(&owner.uid)).collect::<Vec<_>>(),
        [user.metadata.uid.as_ref()]
    );
    assert_eq!(
        (secret.labels()["team"].as_str(), secret.annotations()["note"].as_str()),
        ("users", "rotate")
    );
    assert!(data["sasl.jaas.config"].contains(&format!("username=\"{named}\" password=\"{}\";", data["password"])));

    // And it can log in and write to its topic, and to no other one of the story
    let client = users.client("app", &data["password"]).await?;
    writes(&client, &own, None).await?;
    ensure!(
        write(&client, &other).await? == Some(Code::TopicAuthorizationFailed),
        "{other} is closed"
    );

    // When it is granted the other topic instead, Then the first one is closed
    users.apply("app", json!({"type": "scram-sha-512"}), &other).await?;
    writes(&client, &other, None).await?;
    writes(&client, &own, Some(Code::TopicAuthorizationFailed)).await?;

    // When its password is that of a Secret, Then it fails until there is one, and has that password then
    let chosen = json!({"type": "scram-sha-512", "password": {"valueFrom": {"secretKeyRef": {"name": "chosen", "key": "password"}}}});
    users.apply("app", chosen, &other).await?;
    let (_, failed) = users.reported("app", "NotReady").await?;
    assert_eq!(failed.reason.as_deref(), Some("InvalidResourceException"));
    world.set_secret("chosen", "app", "a-chosen-password").await?;
    users.reported("app", "Ready").await?;
    writes(&users.client("app", "a-chosen-password").await?, &other, None).await?;

    // When it is deleted, Then it cannot log in any more
    users.api.delete(&named, &DeleteParams::default()).await?;
    let client = users.client("app", "a-chosen-password").await?;
    writes(&client, &other, Some(Code::MessageTimedOut)).await?;
    strimzi.clean_up().await?;
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_a_certificate_may_use_only_what_is_granted() -> Result<()> {
    // Given a Strimzi whose Kafka describes its listeners
    let world = World::without_secrets("user-certificate").await?;
    let strimzi = Installation::start(&world, CLUSTER).await?;
    let kafka = KafkaResource::create(&world.client, &world.namespace, CLUSTER).await?;
    let (users, (own, other)) = (Users::of(&world).await?, create_topics(&world).await?);

    // When a user is applied, Then its Secret has a certificate and a key, and its name is that of the certificate
    users.apply("app", json!({"type": "tls"}), &own).await?;
    let (user, _) = users.reported("app", "Ready").await?;
    let expected = Some(format!("CN={}", users.named("app")));
    assert_eq!(user.status.unwrap_or_default().username, expected);
    let (_, files) = users.secret("app").await?;
    assert!(files["user.key"].starts_with("-----BEGIN PRIVATE KEY-----"), "PKCS #8");
    let client = client_with(&world, &files).await?;
    writes(&client, &own, None).await?;
    ensure!(
        write(&client, &other).await? == Some(Code::TopicAuthorizationFailed),
        "{other} is closed"
    );

    // When its certificate is issued elsewhere, Then it has no Secret
    users.apply("external", json!({"type": "tls-external"}), &own).await?;
    let (external, _) = users.reported("external", "Ready").await?;
    assert_eq!(external.status.unwrap_or_default().secret, None);
    assert!(users.secret("external").await.is_err());

    // And the listeners have the certificates of the authority, until it is renewed
    let certificates = async || -> Result<Vec<Value>> {
        let resource = resources::resource(&world.client, "Kafka").await?;
        let api: Api<kube::api::DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, &resource);
        let found = api.get(CLUSTER).await?.data["status"]["listeners"].clone();
        let listeners = found.as_array().context("listeners")?;
        Ok(listeners.iter().map(|listener| listener["certificates"].clone()).collect())
    };
    let original = json!([userpipeline_tests::services::authority(&world.client).await?]);
    assert_eq!(certificates().await?, [Value::Null, original.clone(), original]);
    kafka.set_certificates(&["renewed".to_owned()]).await?;
    assert_eq!(certificates().await?, [Value::Null, json!(["renewed"]), json!(["renewed"])]);
    strimzi.clean_up().await?;
    world.clean_up().await
}
