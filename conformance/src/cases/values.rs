//! What `get`, `set` and `destroy` do to values; what a store shows of itself.

use std::{error::Error as _, fmt::Write as _, sync::LazyLock};

use bytes::{Bytes, BytesMut};
use cloakroom_core::{ErrorKind, Status};
use tokio::time::{Instant, sleep};

use crate::{
    context::{Cx, LONG, bytes, expect_none, expect_value, key},
    failure::{Failure, Verdict, check, check_eq, show, show_found},
    subject::Ability,
};

const MEBIBYTE: usize = 1024 * 1024;

/// Just over what the strictest of the usual backends takes: a MongoDB document of 16 MiB.
const OVERSIZE: usize = 17 * MEBIBYTE;

pub(crate) async fn an_absent_key_is_none(cx: Cx) -> Verdict {
    let rule = "get of a key that was never set is Ok(None)";
    expect_none(cx.store(), &key("never-set")?, rule).await
}

pub(crate) async fn a_value_comes_back_as_it_was_set(cx: Cx) -> Verdict {
    let key = key("a-key")?;
    cx.store().set(&key, bytes("a value"), LONG).await?;
    expect_value(cx.store(), &key, b"a value", "get returns what set stored").await?;
    expect_value(cx.store(), &key, b"a value", "get changes nothing").await
}

pub(crate) async fn an_empty_value_is_a_value(cx: Cx) -> Verdict {
    let key = key("empty")?;
    cx.store().set(&key, Bytes::new(), LONG).await?;
    expect_value(cx.store(), &key, b"", "an empty value is a value, not an absent one").await?;
    let destroyed = cx.store().destroy(&key).await?;
    check_eq!(destroyed, true, "destroy of a live empty value is true");
    Ok(())
}

pub(crate) async fn every_byte_comes_back(cx: Cx) -> Verdict {
    let all: Vec<u8> = (0..=255).collect();
    let reversed: Vec<u8> = (0..=255).rev().collect();
    for (name, value) in [("all", all), ("reversed", reversed), ("not-utf8", vec![0xff, 0xc0, 0x80])] {
        let key = key(name)?;
        cx.store().set(&key, value.clone().into(), LONG).await?;
        expect_value(cx.store(), &key, &value, "values are opaque bytes: any byte comes back").await?;
    }
    Ok(())
}

pub(crate) async fn values_that_look_like_something_come_back(cx: Cx) -> Verdict {
    let looks: [&[u8]; 20] = [
        b"\0",
        b"a\0b",
        b"ends in nul\0",
        b"\0begins with nul",
        b" leading space",
        b"trailing space ",
        b"line\r\nbreak\n",
        b"{\"$where\":\"sleep(1000)\",\"a.b\":{\"$gt\":\"\"}}",
        b"{ \"keys\" : \"in this order\" , \"and\" : 1.0 }",
        b"null",
        b"12345678901234567890",
        b"0x00",
        b"\\x6465616462656566",
        b"\\000\\\\",
        b"'; DROP TABLE sessions; --",
        b"$1 ? :name %s %00 {}",
        b"*3\r\n$3\r\nSET\r\n",
        // The BSON document {"$set": {"a": 1}}.
        b"\x1b\0\0\0\x03$set\0\x0c\0\0\0\x10a\0\x01\0\0\0\0\0",
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
        "\u{feff}\u{fffd}\u{1f9e5} e\u{301}".as_bytes(),
    ];
    for (number, value) in looks.into_iter().enumerate() {
        let key = key(&format!("look-{number}"))?;
        cx.store().set(&key, Bytes::from_static(value), LONG).await?;
        let rule = "a store never looks into a value: whatever it looks like, it comes back as it went in";
        expect_value(cx.store(), &key, value, rule).await?;
    }
    Ok(())
}

pub(crate) async fn a_value_of_one_mebibyte_comes_back_or_is_too_large(cx: Cx) -> Verdict {
    // 65,535 bytes is where a MySQL BLOB ends, 65,536 where two bytes of length do.
    for size in [65_535, 65_536, MEBIBYTE] {
        large_value_is_kept_or_refused(&cx, patterned(size)).await?;
    }
    Ok(())
}

pub(crate) async fn an_oversized_value_is_kept_or_is_too_large(cx: Cx) -> Verdict {
    large_value_is_kept_or_refused(&cx, oversized()).await
}

async fn large_value_is_kept_or_refused(cx: &Cx, large: Bytes) -> Verdict {
    let key = key("large")?;
    cx.store().set(&key, bytes("the old value"), LONG).await?;
    match cx.store().set(&key, large.clone(), LONG).await {
        Ok(()) => expect_value(cx.store(), &key, &large, "a value that set accepts comes back whole").await,
        Err(error) => {
            let rule = "a value that the backend does not take is TooLarge";
            check_eq!(error.kind(), ErrorKind::TooLarge, rule);
            let rule = "after TooLarge the old value is intact";
            expect_value(cx.store(), &key, b"the old value", rule).await
        }
    }
}

/// A value that a backend may refuse; made once.
pub(crate) fn oversized() -> Bytes {
    static OVERSIZED: LazyLock<Bytes> = LazyLock::new(|| patterned(OVERSIZE));
    OVERSIZED.clone()
}

/// Bytes that repeat at a prime distance, so that a value cut or put together wrongly shows.
fn patterned(size: usize) -> Bytes {
    let block: Vec<u8> =
        (0..65_521_u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut value = block.repeat(size.div_ceil(block.len()));
    value.truncate(size);
    value.into()
}

pub(crate) async fn set_replaces_the_value(cx: Cx) -> Verdict {
    let key = key("replaced")?;
    for value in ["first", "a longer second one", "3rd", "", "fifth"] {
        cx.store().set(&key, bytes(value), LONG).await?;
        expect_value(cx.store(), &key, value.as_bytes(), "set replaces the value whole").await?;
    }
    Ok(())
}

pub(crate) async fn a_write_changes_no_other_value(cx: Cx) -> Verdict {
    // Cut from one buffer, as values that were parsed from one message are.
    let mut buffer = BytesMut::from(&b"value-1value-2value-3"[..]);
    let keys = [key("k1")?, key("k2")?, key("k3")?];
    let mut values = Vec::new();
    for key in &keys {
        let value = buffer.split_to(7).freeze();
        cx.store().set(key, value.clone(), LONG).await?;
        values.push(value);
    }
    let early = cx.store().get(&keys[0]).await?;
    cx.store().set(&keys[1], bytes("VALUE-2"), LONG).await?;
    let rule = "a write changes no other key's value";
    expect_value(cx.store(), &keys[0], &values[0], rule).await?;
    expect_value(cx.store(), &keys[2], &values[2], rule).await?;
    check!(
        early.as_deref() == Some(&values[0][..]),
        "a value that was read does not change afterwards",
        "it is now {}",
        show_found(early.as_deref())
    );
    Ok(())
}

pub(crate) async fn destroy_removes_a_live_value_and_is_true(cx: Cx) -> Verdict {
    let key = key("doomed")?;
    cx.store().set(&key, bytes("value"), LONG).await?;
    let destroyed = cx.store().destroy(&key).await?;
    check_eq!(destroyed, true, "destroy is true when a live value was removed");
    expect_none(cx.store(), &key, "after destroy no reader sees the value").await
}

pub(crate) async fn destroy_of_an_absent_key_is_ok_and_false(cx: Cx) -> Verdict {
    let destroyed = cx.store().destroy(&key("never-set")?).await?;
    check_eq!(destroyed, false, "destroy of an absent key is Ok(false)");
    Ok(())
}

pub(crate) async fn destroy_of_a_destroyed_key_is_false(cx: Cx) -> Verdict {
    let key = key("doomed-twice")?;
    cx.store().set(&key, bytes("value"), LONG).await?;
    let first = cx.store().destroy(&key).await?;
    let second = cx.store().destroy(&key).await?;
    check_eq!((first, second), (true, false), "of two destroys in turn only the first is true");
    Ok(())
}

pub(crate) async fn destroy_removes_only_its_key(cx: Cx) -> Verdict {
    let (doomed, longer, shorter) = (key("user:12")?, key("user:123")?, key("user:1")?);
    for key in [&doomed, &longer, &shorter] {
        cx.store().set(key, bytes("value"), LONG).await?;
    }
    cx.store().destroy(&doomed).await?;
    for spared in [&longer, &shorter] {
        expect_value(cx.store(), spared, b"value", "destroy removes only its own key").await?;
    }
    Ok(())
}

pub(crate) async fn a_destroyed_key_can_be_set_again(cx: Cx) -> Verdict {
    let key = key("phoenix")?;
    cx.store().set(&key, bytes("before"), LONG).await?;
    cx.store().destroy(&key).await?;
    cx.store().set(&key, bytes("after"), LONG).await?;
    expect_value(cx.store(), &key, b"after", "set stores under a key that was destroyed").await
}

pub(crate) async fn an_open_store_is_connected(cx: Cx) -> Verdict {
    // A store may connect with its first operation, and learn of its success a moment later.
    cx.store().get(&key("never-set")?).await?;
    let deadline = Instant::now() + cx.patience();
    loop {
        let status = cx.store().status().current();
        if status == Status::Connected {
            return Ok(());
        }
        check!(
            Instant::now() < deadline,
            "the status of a store that answers is Connected",
            "status().current() is {status:?} after a get that succeeded"
        );
        sleep(std::time::Duration::from_millis(10)).await;
    }
}

pub(crate) async fn declared_abilities_are_there(cx: Cx) -> Verdict {
    for ability in Ability::ALL {
        if cx.declares(ability) {
            let rule = "a declared ability is there";
            check!(ability.is_in(cx.store()), rule, "as_{ability} returned None");
        }
    }
    Ok(())
}

pub(crate) async fn undeclared_abilities_are_none(cx: Cx) -> Verdict {
    for ability in Ability::ALL {
        if !cx.declares(ability) {
            let rule = "an ability that is not declared, and so not tested, is not handed out";
            check!(!ability.is_in(cx.store()), rule, "as_{ability} returned Some");
        }
    }
    Ok(())
}

pub(super) const CANARY_KEY: &str = "canary-KEY-9f8e7d";
pub(super) const CANARY_VALUE: &str = "canary-VALUE-6c5b4a";

pub(crate) async fn debug_of_the_store_shows_neither_key_nor_value(cx: Cx) -> Verdict {
    let key = key(CANARY_KEY)?;
    cx.store().set(&key, bytes(CANARY_VALUE), LONG).await?;
    cx.store().get(&key).await?;
    let rule = "Debug of a store shows neither keys nor values";
    let store = cx.store();
    no_canary_in(&format!("{store:?} {store:#?}"), rule)
}

pub(crate) async fn an_error_shows_neither_key_nor_value(cx: Cx) -> Verdict {
    // The one error that can be provoked without a fault: a value too large, where there is such a thing.
    let key = key(CANARY_KEY)?;
    let value: Bytes = CANARY_VALUE.repeat(OVERSIZE / CANARY_VALUE.len()).into();
    let Err(error) = cx.store().set(&key, value, LONG).await else {
        return Ok(());
    };
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = error.source();
    while let Some(error) = source {
        // Writing to a `String` cannot fail.
        let _ = write!(text, " {error} {error:?}");
        source = error.source();
    }
    no_canary_in(&text, "an error shows neither keys nor values, and nor do its sources")
}

pub(super) const CANARY_USER: &str = "canary-USER-3e2d1c";

/// Fails if `text` shows a canary, in whichever of the usual forms.
pub(super) fn no_canary_in(text: &str, rule: &str) -> Verdict {
    for canary in [CANARY_KEY, CANARY_VALUE, CANARY_USER] {
        // `Debug` of bytes may also be a list of numbers or hexadecimal digits.
        let numbers = canary.bytes().take(6).map(|byte| byte.to_string());
        let list = numbers.collect::<Vec<_>>().join(", ");
        let hex: String = canary.bytes().take(6).map(|byte| format!("{byte:02x}")).collect();
        for shape in [canary.to_owned(), list, hex] {
            if let Some(at) = text.find(&shape) {
                let seen = show(&text.as_bytes()[at.saturating_sub(16)..]);
                return Err(Failure::new(rule, format!("it shows {seen}")));
            }
        }
    }
    Ok(())
}
