//! The stores of the table, each opened as its own test file opens it.

use cloakroom_conformance::{Ability, Subject};

#[cfg(feature = "sqlite")]
#[path = "../sql/folder.rs"]
#[allow(dead_code)]
mod folder;

#[cfg(feature = "redis")]
#[path = "../support/redis_wire.rs"]
mod wire;

/// Declares that an operation that does nothing takes one round trip, and one that compares what `comparing` says.
#[cfg(any(feature = "mongo", feature = "mysql", feature = "postgres", feature = "redis"))]
fn refusing(subject: Subject, comparing: u64) -> Subject {
    use cloakroom_conformance::Operation::{Create, Destroy, Get, Remove, Replace, Touch};
    let subject =
        [Get, Destroy, Create, Touch].into_iter().fold(subject, |it, operation| it.refusals(operation, 1));
    subject.refusals(Replace, comparing).refusals(Remove, comparing)
}

/// The stores that this build has, each with the name of the test file that proves it.
pub(crate) fn subjects() -> Vec<(&'static str, Subject)> {
    let mut subjects: Vec<(&'static str, Subject)> = Vec::new();
    #[cfg(feature = "memory")]
    subjects.push(("memory", {
        use cloakroom::{Error, MemoryStore};
        let open =
            |env: cloakroom_conformance::Env| async move { Ok::<_, Error>(env.shared(MemoryStore::new)) };
        Subject::new(open, Ability::ALL).name("`MemoryStore`: in this process, gone with it")
    }));
    #[cfg(feature = "sqlite")]
    subjects.push(("sqlite", {
        let open = |env: cloakroom_conformance::Env| async move {
            folder::Folder::shared(&env).store(env.namespace()).await
        };
        Subject::new(open, Ability::ALL).name("`SqliteStore`: in a file on this machine; the quickstart's")
    }));
    #[cfg(feature = "redis")]
    subjects.push(("redis", {
        use cloakroom::RedisStore;
        use cloakroom_conformance::{Operation, Server};
        let open = |env: cloakroom_conformance::Env| async move {
            RedisStore::builder().prefix(format!("{}:", env.namespace())).connect(env.url()).await
        };
        let subject = Subject::new(open, Ability::ALL)
            .server(Server::redis())
            .round_trips(Operation::KeysOf, 2)
            .round_trips(Operation::DestroyUser, 2)
            .name("`RedisStore`: Redis 6.2 or later, Valkey");
        refusing(subject, 1)
    }));
    #[cfg(feature = "redis")]
    subjects.push(("redis_cluster", {
        use cloakroom::RedisStore;
        use cloakroom_conformance::{Operation, Server};
        let open = |env: cloakroom_conformance::Env| async move {
            RedisStore::builder().prefix(format!("{}:", env.namespace())).cluster(env.url().split(',')).await
        };
        let subject = Subject::new(open, Ability::ALL)
            .server(Server::redis_cluster())
            .many_addresses()
            .wire(wire::one_node(), wire::in_cluster)
            .round_trips(Operation::Bind, 2)
            .round_trips(Operation::KeysOf, 2)
            .round_trips(Operation::DestroyUser, 3)
            .name("`RedisStore::cluster`: Redis Cluster");
        refusing(subject, 1)
    }));
    #[cfg(feature = "redis")]
    subjects.push(("redis_sentinel", {
        use cloakroom::RedisStore;
        use cloakroom_conformance::{Operation, Server};
        let open = |env: cloakroom_conformance::Env| async move {
            let builder = RedisStore::builder().prefix(format!("{}:", env.namespace()));
            builder.sentinel(env.url().split(','), "mymaster").await
        };
        let subject = Subject::new(open, Ability::ALL)
            .server(Server::redis_sentinel())
            .many_addresses()
            .wire(Server::redis(), wire::behind_sentinel)
            .round_trips(Operation::KeysOf, 2)
            .round_trips(Operation::DestroyUser, 2)
            .name("`RedisStore::sentinel`: behind Redis Sentinel");
        refusing(subject, 1)
    }));
    #[cfg(feature = "postgres")]
    subjects.push(("postgres", {
        use cloakroom::PostgresStore;
        use cloakroom_conformance::Server;
        let open = |env: cloakroom_conformance::Env| async move {
            let builder = PostgresStore::builder()
                .table(env.namespace())
                .max_connections(4)
                .timeout(std::time::Duration::from_secs(4))
                .sweep_every(None);
            let store = builder.connect(env.url()).await?;
            store.migrate().await?;
            Ok::<_, cloakroom::Error>(store)
        };
        let subject = Subject::new(open, Ability::ALL)
            .server(Server::postgres())
            .name("`PostgresStore`: PostgreSQL 12 or later, also through a pooler");
        refusing(subject, 1)
    }));
    #[cfg(feature = "mysql")]
    subjects.push(("mysql", {
        use cloakroom::MySqlStore;
        use cloakroom_conformance::Server;
        let open = |env: cloakroom_conformance::Env| async move {
            let builder = MySqlStore::builder()
                .table(env.namespace())
                .max_connections(4)
                .timeout(std::time::Duration::from_secs(4))
                .sweep_every(None);
            let store = builder.connect(env.url()).await?;
            store.migrate().await?;
            Ok::<_, cloakroom::Error>(store)
        };
        let subject = Subject::new(open, Ability::ALL)
            .server(Server::mariadb())
            .name("`MySqlStore`: MySQL 8 and MariaDB 10.11, or later");
        refusing(subject, 2)
    }));
    #[cfg(feature = "mongo")]
    subjects.push(("mongo", {
        use cloakroom::MongoStore;
        use cloakroom_conformance::{Operation, Server};
        let open = |env: cloakroom_conformance::Env| async move {
            MongoStore::builder().collection(env.namespace()).connect(env.url()).await
        };
        let subject = Subject::new(open, Ability::ALL)
            .server(Server::mongo())
            .round_trips(Operation::DestroyUser, 2)
            .name("`MongoStore`: MongoDB 4.4 or later");
        refusing(subject, 1)
    }));
    subjects
}
