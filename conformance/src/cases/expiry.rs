//! Every value lives as long as its ttl and no longer, and expired is absent.

use std::time::Duration;

use cloakroom_core::{Key, Ttl};
use tokio::time::{Instant, sleep};

use crate::{
    context::{Cx, LONG, SHORT, bytes, cannot_have_expired, expect_none, expect_value, key, sleep_until},
    failure::{Failure, Verdict, check, check_eq, show_found},
};

pub(crate) async fn an_expired_value_is_none(cx: Cx) -> Verdict {
    let key = key("short-lived")?;
    cx.store().set(&key, bytes("value"), SHORT).await?;
    cx.wait_gone(cx.store(), &key, SHORT, "get of an expired value is None").await
}

pub(crate) async fn destroy_of_an_expired_value_is_false(cx: Cx) -> Verdict {
    let key = key("expired")?;
    cx.store().set(&key, bytes("value"), SHORT).await?;
    cx.outlive(SHORT).await?;
    let destroyed = cx.store().destroy(&key).await?;
    check_eq!(destroyed, false, "destroy of an expired value is false: expired is absent");
    Ok(())
}

pub(crate) async fn an_expired_value_can_be_set_again(cx: Cx) -> Verdict {
    let key = key("expired")?;
    cx.store().set(&key, bytes("old"), SHORT).await?;
    cx.outlive(SHORT).await?;
    cx.store().set(&key, bytes("new"), LONG).await?;
    expect_value(cx.store(), &key, b"new", "set stores over an expired value").await
}

pub(crate) async fn a_value_lives_no_shorter_than_its_ttl(cx: Cx) -> Verdict {
    // 400 ms is nothing when rounded to seconds; 1,400 ms is 1 s when rounded down or to the nearest.
    let (brief, longer) = (key("400-ms")?, key("1400-ms")?);
    for attempt in 0..4 {
        let more = Duration::from_secs(attempt);
        let brief_ttl = Ttl::new(Duration::from_millis(400) + more);
        let longer_ttl = Ttl::new(Duration::from_millis(1_400) + more);
        let start = Instant::now();
        cx.store().set(&brief, bytes("brief"), brief_ttl).await?;
        cx.store().set(&longer, bytes("longer"), longer_ttl).await?;
        let brief_judged = lives_until_the_last_moment(&cx, start, brief_ttl, &brief).await?;
        let longer_judged = lives_until_the_last_moment(&cx, start, longer_ttl, &longer).await?;
        if brief_judged && longer_judged {
            return Ok(());
        }
    }
    Err(Failure::too_slow())
}

/// Reads until the ttl has all but passed. `false`: no read could be judged in its last 300 ms.
async fn lives_until_the_last_moment(cx: &Cx, start: Instant, ttl: Ttl, key: &Key) -> Verdict<bool> {
    let last_moments = start + ttl.duration().saturating_sub(Duration::from_millis(300));
    let mut judged = false;
    loop {
        let found = cx.store().get(key).await?;
        let ended = Instant::now();
        if !cannot_have_expired(start, ttl) {
            return Ok(judged);
        }
        check!(
            found.is_some(),
            "a value lives at least as long as its ttl: coarser clocks round up",
            "get returned None {} ms after a write with a ttl of {} ms",
            start.elapsed().as_millis(),
            ttl.millis()
        );
        judged |= ended > last_moments;
        sleep(Duration::from_millis(25)).await;
    }
}

pub(crate) async fn the_shortest_ttl_is_no_error_and_expires(cx: Cx) -> Verdict {
    let key = key("one-millisecond")?;
    cx.store().set(&key, bytes("value"), Ttl::MIN).await?;
    let rule = "a value with a ttl of 1 ms expires like any other: it is neither refused nor kept for ever";
    cx.wait_gone(cx.store(), &key, Ttl::MIN, rule).await
}

pub(crate) async fn long_ttls_do_not_overflow(cx: Cx) -> Verdict {
    const DAY: u64 = 24 * 60 * 60 * 1000;
    let ttls = [
        // Where 32 bits of milliseconds end, signed and unsigned.
        (1 << 31) - 1,
        1 << 31,
        1 << 32,
        (1 << 32) + 20,
        // Where memcached starts to take a ttl for a date.
        30 * DAY,
        30 * DAY + 1000,
        Ttl::MAX.millis(),
    ];
    let mut keys = Vec::new();
    for millis in ttls {
        let key = key(&format!("{millis}-ms"))?;
        cx.store().set(&key, bytes("value"), Ttl::from_millis(millis)).await?;
        keys.push((key, millis));
    }
    cx.outlive(SHORT).await?;
    for (key, millis) in keys {
        let found = cx.store().get(&key).await?;
        check!(
            found.is_some(),
            "every ttl up to 400 days is kept",
            "a value with a ttl of {millis} ms was gone at once"
        );
    }
    Ok(())
}

pub(crate) async fn get_does_not_extend_the_ttl(cx: Cx) -> Verdict {
    let key = key("read-often")?;
    let ttl = Ttl::from_millis(150);
    cx.store().set(&key, bytes("value"), ttl).await?;
    let written = Instant::now();
    while written.elapsed() < ttl.duration() {
        cx.store().get(&key).await?;
        sleep(Duration::from_millis(10)).await;
    }
    // Goes on reading: a value that every read keeps alive never goes.
    cx.wait_read_to_death(&key, written, ttl).await
}

impl Cx {
    async fn wait_read_to_death(&self, key: &Key, written: Instant, ttl: Ttl) -> Verdict {
        loop {
            let waited = written.elapsed();
            let found = self.store().get(key).await?;
            if found.is_none() {
                return Ok(());
            }
            check!(
                waited <= ttl.duration() + self.patience(),
                "get does not extend the ttl",
                "get returned {} {} ms after a write with a ttl of {} ms, reading all the while",
                show_found(found.as_deref()),
                waited.as_millis(),
                ttl.millis()
            );
            sleep(Duration::from_millis(10)).await;
        }
    }
}

pub(crate) async fn set_replaces_the_ttl_by_a_shorter_one(cx: Cx) -> Verdict {
    let key = key("shortened")?;
    cx.store().set(&key, bytes("value"), LONG).await?;
    cx.store().set(&key, bytes("value"), SHORT).await?;
    cx.wait_gone(cx.store(), &key, SHORT, "set replaces the ttl, also by a shorter one").await
}

pub(crate) async fn set_replaces_the_ttl_by_a_longer_one(cx: Cx) -> Verdict {
    let key = key("lengthened")?;
    cx.store().set(&key, bytes("old"), SHORT).await?;
    cx.store().set(&key, bytes("new"), LONG).await?;
    cx.outlive(SHORT).await?;
    expect_value(cx.store(), &key, b"new", "set replaces the ttl, also by a longer one").await
}

pub(crate) async fn every_value_has_a_ttl_of_its_own(cx: Cx) -> Verdict {
    let (before, brief, after) = (key("before")?, key("brief")?, key("after")?);
    cx.store().set(&before, bytes("before"), LONG).await?;
    cx.store().set(&brief, bytes("brief"), SHORT).await?;
    cx.store().set(&after, bytes("after"), LONG).await?;
    let rule = "the ttl of one key is not that of another";
    cx.wait_gone(cx.store(), &brief, SHORT, rule).await?;
    expect_value(cx.store(), &before, b"before", rule).await?;
    expect_value(cx.store(), &after, b"after", rule).await
}

pub(crate) async fn an_expired_value_stays_absent(cx: Cx) -> Verdict {
    let key = key("expired")?;
    cx.store().set(&key, bytes("value"), SHORT).await?;
    cx.outlive(SHORT).await?;
    let later = Instant::now() + Duration::from_millis(60);
    expect_none(cx.store(), &key, "an expired value is absent").await?;
    sleep_until(later).await;
    expect_none(cx.store(), &key, "an expired value stays absent").await
}
