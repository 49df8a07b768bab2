//! The session as a struct: defaults, foreign keys, replay, and fields that are assigned.

#![allow(clippy::unwrap_used, clippy::panic)] // What helps a test is a test.
mod support;

use std::collections::BTreeMap;

use cloakroom_core::{Data, Engine, ErrorKind, Save, Session};
use serde::{Deserialize, Serialize};
use support::{
    shape::{SHAPES, Stage},
    spy::{Act, meanwhile},
};

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Visit {
    views: u64,
    theme: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    tags: Vec<String>,
}

fn visit(session: &Session) -> Data<Visit> {
    Data::of(session.clone()).unwrap()
}

/// A stage whose first `replace` is preceded by `others` in another request.
async fn overtaken(others: fn(&Session)) -> Stage {
    let stage = Stage::set(&SHAPES[0]).await;
    let (quiet, other) = (Engine::builder(stage.spy.store()).build().unwrap(), stage.visitor.clone());
    stage.spy.on(
        "replace",
        1,
        Act::Before(meanwhile(move || {
            let (quiet, other) = (quiet.clone(), other.clone());
            async move {
                other
                    .peek(&quiet, async |s| {
                        others(s);
                        Ok(())
                    })
                    .await
                    .outcome
                    .unwrap();
            }
        })),
    );
    stage
}

async fn fields(stage: &Stage) -> BTreeMap<String, serde_json::Value> {
    let answer = stage
        .visitor
        .peek(&stage.engine, async |s| {
            s.keys().into_iter().map(|key| Ok((key.clone(), s.get(&key)?.unwrap()))).collect()
        })
        .await;
    answer.outcome.unwrap()
}

#[tokio::test]
async fn what_is_not_stored_has_its_default_and_stays_unstored() {
    let mut stage = Stage::set(&SHAPES[0]).await;
    let engine = stage.engine.clone();
    let answer = stage.visitor.visit(&engine, async |s| {
        let data = visit(s);
        assert_eq!(*data.read(), Visit::default());
        data.update(|_| {})?;
        drop(data.write()?);
        Ok(())
    });
    answer.await.outcome.unwrap();
    assert_eq!(stage.spy.take_calls(), ["get"], "nothing differs, nothing is written");
    let answer = stage.visitor.visit(&engine, async |s| visit(s).update(|v| v.views += 1));
    answer.await.outcome.unwrap();
    let stored = fields(&stage).await;
    assert_eq!(stored.keys().collect::<Vec<_>>(), ["keep", "n", "views"], "only what changed");
}

#[tokio::test]
async fn an_update_is_seen_at_once_by_every_view_of_the_session() {
    let mut stage = Stage::set(&SHAPES[0]).await;
    let engine = stage.engine.clone();
    let answer = stage.visitor.visit(&engine, async |s| {
        let (one, two) = (visit(s), visit(s));
        one.update(|v| v.views += 2)?;
        assert_eq!((two.read().views, s.get::<u64>("views")?), (2, Some(2)));
        s.insert("theme", "dark")?;
        assert_eq!(one.clone().read().theme, "dark");
        two.write()?.note = Some("x".into());
        assert_eq!(one.read().note.as_deref(), Some("x"));
        one.update(|v| v.note = None)?;
        assert!(!s.contains("note"), "a field that is skipped is removed");
        one.session().insert("views", 9)?;
        assert_eq!(two.read().views, 9);
        Ok(())
    });
    answer.await.outcome.unwrap();
    assert_eq!(fields(&stage).await["views"], 9);
}

#[tokio::test]
async fn an_update_is_done_again_on_what_others_stored_and_their_other_fields_stay() {
    let mut stage = overtaken(|s| {
        visit(s).update(|v| v.views += 10).unwrap();
        s.insert("theirs", 1).unwrap();
        s.insert("theme", "light").unwrap();
        s.remove("keep").unwrap();
    })
    .await;
    let engine = stage.engine.clone();
    let answer = stage.visitor.visit(&engine, async |s| {
        visit(s).update(|v| {
            v.views += 1;
            v.tags.push("mine".into());
        })
    });
    answer.await.outcome.unwrap();
    let stored = fields(&stage).await;
    assert_eq!(
        (&stored["views"], &stored["theirs"], &stored["theme"]),
        (&11.into(), &1.into(), &"light".into())
    );
    assert_eq!(stored["tags"], serde_json::json!(["mine"]));
    assert!(!stored.contains_key("keep"), "what others removed is not brought back");
}

#[tokio::test]
async fn an_assigned_field_is_last_writer_wins_and_the_others_stay() {
    let mut stage = overtaken(|s| {
        let data = visit(s);
        data.write().unwrap().theme = "light".into();
        data.write().unwrap().views = 40;
    })
    .await;
    let engine = stage.engine.clone();
    let answer = stage.visitor.visit(&engine, async |s| {
        visit(s).write()?.theme = "dark".into();
        Ok(())
    });
    answer.await.outcome.unwrap();
    let stored = fields(&stage).await;
    assert_eq!((&stored["theme"], &stored["views"]), (&"dark".into(), &40.into()));
}

#[tokio::test]
async fn a_field_of_another_type_is_an_error_and_is_not_overwritten() {
    let mut stage = Stage::set(&SHAPES[0]).await;
    let engine = stage.engine.clone();
    stage.visitor.visit(&engine, async |s| s.insert("views", "canary")).await.outcome.unwrap();
    let answer = stage.visitor.visit(&engine, async |s| Data::<Visit>::of(s.clone()).map(|_| ())).await;
    let error = answer.outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Value);
    assert!(error.to_string().contains("Visit") && !format!("{error}{error:?}").contains("canary"));
    // So it is when another request stores it meanwhile.
    let mut stage = overtaken(|s| s.insert("views", "canary").unwrap()).await;
    let engine = stage.engine.clone();
    let answer = stage.visitor.visit(&engine, async |s| visit(s).update(|v| v.views += 1)).await;
    assert_eq!(answer.kind(), Some(ErrorKind::Value));
    assert_eq!(fields(&stage).await["views"], "canary");
}

#[tokio::test]
async fn a_field_that_cannot_become_json_is_told_at_the_latest_when_saving() {
    #[derive(Default, Serialize, Deserialize)]
    struct Odd {
        n: u64,
        map: BTreeMap<String, BTreeMap<(u8, u8), u8>>,
    }
    let mut stage = Stage::set(&SHAPES[0]).await;
    let engine = stage.engine.clone();
    let bad = |odd: &mut Odd| {
        odd.n = 5;
        odd.map.entry("a".into()).or_default().insert((1, 2), 3);
    };
    let answer = stage.visitor.visit(&engine, async |s| Data::<Odd>::of(s.clone())?.update(bad)).await;
    assert_eq!(answer.kind(), Some(ErrorKind::Value));
    let answer = stage.visitor.visit(&engine, async |s| {
        bad(&mut *Data::<Odd>::of(s.clone())?.write()?);
        Ok(())
    });
    assert_eq!(answer.await.kind(), Some(ErrorKind::Value), "a guard cannot answer, so the save does");
    assert_eq!(fields(&stage).await["n"], 1);
    let answer = Data::<u64>::of(stage.visitor.begin(&engine).load().await.unwrap());
    assert!(answer.unwrap_err().to_string().contains("named fields"));
}

#[tokio::test]
async fn nothing_is_saved_under_save_never_and_everything_under_always() {
    for (save, calls) in [(Save::Never, &["get"][..]), (Save::Always, &["get", "replace"])] {
        let mut stage = Stage::set(&SHAPES[0]).await;
        let engine = stage.engine.clone();
        let answer = stage.visitor.visit(&engine, async |s| {
            s.set_save(save);
            if save == Save::Never { visit(s).update(|v| v.views += 1) } else { Ok(()) }
        });
        answer.await.outcome.unwrap();
        assert_eq!(stage.spy.take_calls(), calls);
        assert!(!fields(&stage).await.contains_key("views"));
    }
}

#[tokio::test]
async fn data_and_plain_values_share_a_session_and_odd_keys_survive() {
    let mut stage = Stage::set(&SHAPES[0]).await;
    let engine = stage.engine.clone();
    let odd = [
        "",
        "a\"b",
        "back\\slash",
        "nul\0",
        "🦀",
        "__proto__",
        "$where",
        "a.b",
        "views ",
        "\u{fffd}",
        "data",
        "v",
    ];
    let answer = stage.visitor.visit(&engine, async |s| {
        for (n, key) in odd.iter().enumerate() {
            s.insert(key, n)?;
        }
        visit(s).update(|v| v.views += 1)
    });
    answer.await.outcome.unwrap();
    stage.visitor.visit(&engine, async |s| visit(s).update(|v| v.views += 1)).await.outcome.unwrap();
    let stored = fields(&stage).await;
    for (n, key) in odd.iter().enumerate() {
        assert_eq!(stored[*key], n, "{key:?}");
    }
    assert_eq!(stored["views"], 2);
}
