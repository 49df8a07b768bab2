//! Servers: what can be done to them, and that they end in time.

use std::time::Duration;

use cloakroom_conformance::Server;

use crate::talk::{answers, answers_in_time, ask, listens, told};

#[path = "servers/talk.rs"]
mod talk;

#[tokio::test]
async fn a_server_stops_and_starts_at_the_same_address() {
    let redis = Server::redis().start().await.unwrap();
    let url = redis.url().to_owned();
    assert_eq!(told(&url, &["PING"]), "+PONG");
    redis.stop().await.unwrap();
    assert!(ask(&url, &["PING"]).is_err());
    redis.start().await.unwrap();
    assert_eq!(redis.url(), url);
    assert_eq!(told(&url, &["PING"]), "+PONG");
}

#[tokio::test]
async fn a_killed_server_comes_back() {
    let redis = Server::redis().start().await.unwrap();
    for _ in 0..2 {
        redis.kill().await.unwrap();
        assert!(ask(redis.url(), &["PING"]).is_err());
        redis.start().await.unwrap();
        assert_eq!(told(redis.url(), &["PING"]), "+PONG");
    }
}

#[tokio::test]
async fn a_paused_server_accepts_and_does_not_answer() {
    let redis = Server::redis().start().await.unwrap();
    redis.pause().await.unwrap();
    assert!(listens(redis.url()));
    assert!(ask(redis.url(), &["PING"]).is_err());
    redis.resume().await.unwrap();
    assert_eq!(told(redis.url(), &["PING"]), "+PONG");
}

#[tokio::test]
async fn a_server_ends_with_its_last_handle() {
    let redis = Server::redis().start().await.unwrap();
    let url = redis.url().to_owned();
    let clone = redis.clone();
    drop(redis);
    assert_eq!(told(&url, &["PING"]), "+PONG");
    drop(clone);
    assert!(ask(&url, &["PING"]).is_err());
}

#[tokio::test]
async fn a_server_ends_when_a_test_panics() {
    let (tell, started) = std::sync::mpsc::channel();
    let task = tokio::spawn(async move {
        let redis = Server::redis().start().await.unwrap();
        tell.send(redis.url().to_owned()).unwrap();
        std::panic::resume_unwind(Box::new("as a failing assertion does"));
    });
    assert!(task.await.unwrap_err().is_panic());
    assert!(ask(&started.recv().unwrap(), &["PING"]).is_err());
}

#[tokio::test]
async fn a_shared_server_is_one_and_is_left_running() {
    let (one, two) = (Server::redis().shared().await.unwrap(), Server::redis().shared().await.unwrap());
    assert_eq!(one.url(), two.url());
    let failure = one.kill().await.unwrap_err();
    assert!(failure.to_string().contains("others use"), "{failure}");
    assert_eq!(told(two.url(), &["PING"]), "+PONG");
}

#[tokio::test]
async fn arguments_and_files_reach_the_server() {
    let redis = Server::redis()
        .file("users.acl", "user default on nopass ~* &* +@all\nuser ada on >wonder ~* +@all\n")
        .arg("--aclfile")
        .arg("{dir}/users.acl")
        .start()
        .await
        .unwrap();
    assert_eq!(told(redis.url(), &["AUTH", "ada", "wonder"]), "+OK");
    assert!(told(redis.url(), &["AUTH", "ada", "blunder"]).starts_with("-WRONGPASS"));
}

#[tokio::test]
async fn a_proxy_stands_before_a_server() {
    let redis = Server::redis().shared().await.unwrap();
    let (proxy, url) = redis.proxied().await.unwrap();
    assert_eq!(told(&url, &["PING"]), "+PONG");
    assert_eq!((proxy.traffic().connections, proxy.traffic().round_trips), (1, 1));
    proxy.refuse().await;
    assert!(ask(&url, &["PING"]).is_err());
    proxy.heal().await;
    assert_eq!(told(&url, &["PING"]), "+PONG");
}

#[tokio::test]
async fn every_kind_stops_and_starts_and_pauses_and_tells_what_it_is() {
    for (server, products) in [
        (Server::redis(), "Redis, Valkey"),
        (Server::postgres(), "PostgreSQL"),
        (Server::mariadb(), "MariaDB"),
        (Server::mysql(), "MySQL, MariaDB"),
        (Server::mongo(), "MongoDB, SecantusDB"),
    ] {
        let running = server.start().await.unwrap();
        let (url, product) = (running.url().to_owned(), running.product().to_owned());
        assert!(products.contains(&product), "{product} is none of {products}");
        // Behind a proxy PostgreSQL tells nobody who has no password.
        let tells = running.version().contains('.') || running.way().starts_with("address");
        assert!(tells, "{product} tells the version {:?}", running.version());
        assert!(answers_in_time(&url), "{product}");
        running.kill().await.unwrap();
        assert!(!listens(&url), "{product} was killed");
        running.start().await.unwrap();
        assert!(answers_in_time(&url), "{product} was started after a kill");
        running.pause().await.unwrap();
        assert!(listens(&url) && !answers(&url), "{product} is paused");
        running.resume().await.unwrap();
        assert!(answers_in_time(&url), "{product} goes on");
        running.stop().await.unwrap();
        assert!(!listens(&url), "{product} was stopped");
        running.start().await.unwrap();
        assert!(answers_in_time(&url), "{product} was started after a stop");
        assert_eq!(running.url(), url);
    }
}

#[tokio::test]
async fn a_cluster_of_six_takes_every_key_and_comes_back_after_all_were_killed() {
    let cluster = Server::redis_cluster().start().await.unwrap();
    let urls: Vec<&str> = cluster.url().split(',').collect();
    assert_eq!((urls.len(), cluster.nodes().len()), (6, 6));
    for round in ["first", "second"] {
        let taken = (0..100).map(|number| format!("{round}-{number}")).filter(|key| {
            let answers = urls.iter().map(|url| told(url, &["SET", key, "value"]));
            answers.filter(|answer| answer == "+OK").count() == 1
        });
        assert_eq!(taken.count(), 100);
        cluster.kill().await.unwrap();
        cluster.start().await.unwrap();
    }
}

#[tokio::test]
async fn sentinels_promote_a_replica_when_the_master_is_killed() {
    let server = Server::redis_sentinel().start().await.unwrap();
    let sentinel = server.url().split(',').next().unwrap().to_owned();
    let is_master = |url: &str| ask(url, &["SET", "key", "value"]).is_ok_and(|answer| answer == "+OK");
    let [master, others @ ..] = &server.nodes()[..3] else { unreachable!("six nodes") };
    assert_eq!(told(master.url(), &["SET", "key", "value"]), "+OK");
    assert!(others.iter().all(|node| !is_master(node.url())));
    assert!(told(&sentinel, &["SENTINEL", "CKQUORUM", "mymaster"]).starts_with("+OK 3"));
    master.kill().await.unwrap();
    let start = std::time::Instant::now();
    while !others.iter().any(|node| is_master(node.url())) {
        assert!(start.elapsed() < Duration::from_secs(30), "no replica became the master");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
