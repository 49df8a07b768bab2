//! A map from key to item with a lazy expiry queue that never holds more than one place per item.

use hashbrown::HashTable;

/// Children of a node of the queue's heap: four keep it half as deep as two, in the same cache lines.
const ARITY: usize = 4;

/// Room that is kept when items leave; below it giving memory back costs more than it frees.
const KEPT: usize = 16;

/// What a [`Table`] needs to know about an item.
pub(super) trait Item {
    /// Returns the key the item is found by.
    fn key(&self) -> &[u8];

    /// Returns when the item wants to be looked at, in nanoseconds of the store's clock.
    fn due(&self) -> u64;
}

/// Items found by key, or by who is due first.
///
/// The items lie densely in one vector. The hash table holds only their numbers, and so does the queue, a heap whose
/// nodes know their item and whose items know their node. So a removed item leaves nothing behind anywhere, and a
/// copy of the key is not needed.
///
/// An item's place in the queue is never later than it is due, but it may be earlier: a renewed item stays where it is
/// and is moved by [`settle`](Self::settle) when its old time has come.
pub(super) struct Table<T> {
    /// Which item has a key, by the key's tag.
    slots: HashTable<Slot>,
    items: Vec<T>,
    /// For each item its node in `queue`.
    places: Vec<u32>,
    /// A heap with the smallest `at` first.
    queue: Vec<Node>,
}

struct Slot {
    tag: u32,
    item: u32,
}

#[derive(Clone, Copy)]
struct Node {
    at: u64,
    tag: u32,
    item: u32,
}

impl<T: Item> Table<T> {
    pub(super) const fn new() -> Self {
        Self { slots: HashTable::new(), items: Vec::new(), places: Vec::new(), queue: Vec::new() }
    }

    pub(super) fn len(&self) -> u32 {
        number(self.items.len())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns the number of the item under `key`, valid until the next removal. `tag` is always the same for a key.
    pub(super) fn find(&self, tag: u32, key: &[u8]) -> Option<u32> {
        self.slots
            .find(spread(tag), |slot| slot.tag == tag && self.items[index(slot.item)].key() == key)
            .map(|slot| slot.item)
    }

    pub(super) fn get(&self, item: u32) -> &T {
        &self.items[index(item)]
    }

    /// Returns the item to be changed, but not its key. Call [`hasten`](Self::hasten) when it may be due earlier.
    pub(super) fn get_mut(&mut self, item: u32) -> &mut T {
        &mut self.items[index(item)]
    }

    /// Returns the tag the item was inserted with.
    pub(super) fn tag(&self, item: u32) -> u32 {
        self.queue[index(self.places[index(item)])].tag
    }

    /// Returns when the first item of the queue wants to be looked at, `u64::MAX` if there is none.
    pub(super) fn next_at(&self) -> u64 {
        self.queue.first().map_or(u64::MAX, |node| node.at)
    }

    /// Returns the first item whose time in the queue has come. It may not be due: then settle it.
    pub(super) fn first_at(&self, now: u64) -> Option<u32> {
        self.queue.first().filter(|node| node.at <= now).map(|node| node.item)
    }

    /// Returns the item that is due first, other than `except`.
    ///
    /// Exact, unless more than `effort` renewed items stand in front of it: then the best of those.
    pub(super) fn nearest(&mut self, except: Option<u32>, effort: usize) -> Option<u32> {
        let mut best = None;
        for _ in 0..effort {
            let Some(&Node { at, item, .. }) = self.queue.first() else {
                break;
            };
            if Some(item) != except {
                best = sooner(best, (self.get(item).due(), item));
            }
            if at < self.get(item).due() {
                self.settle(item);
                continue;
            }
            if Some(item) == except {
                // What is next stands among the children; a renewed one there is worth no second search.
                let children = self.queue.iter().skip(1).take(ARITY);
                best = children.map(|node| (self.get(node.item).due(), node.item)).fold(best, sooner);
            } else {
                best = Some((at, item));
            }
            break;
        }
        best.map(|(_, item)| item)
    }

    /// Adds an item whose key is not there yet.
    pub(super) fn insert(&mut self, tag: u32, item: T) {
        let new = self.len();
        let place = self.queue.len();
        self.queue.push(Node { at: item.due(), tag, item: new });
        self.places.push(number(place));
        self.items.push(item);
        self.slots.insert_unique(spread(tag), Slot { tag, item: new }, |slot| spread(slot.tag));
        self.rise(place);
    }

    /// Moves the item forward in the queue if it is due earlier than it stands. One that is due later stays.
    pub(super) fn hasten(&mut self, item: u32) {
        let place = index(self.places[index(item)]);
        let due = self.get(item).due();
        if due < self.queue[place].at {
            self.queue[place].at = due;
            self.rise(place);
        }
    }

    /// Puts the item where it belongs in the queue.
    pub(super) fn settle(&mut self, item: u32) {
        let place = index(self.places[index(item)]);
        self.queue[place].at = self.get(item).due();
        self.rise(place);
        self.sink(index(self.places[index(item)]));
    }

    /// Takes the item out. The item with the highest number takes over its number.
    pub(super) fn remove(&mut self, item: u32) -> T {
        let place = index(self.places[index(item)]);
        let node = self.queue.swap_remove(place);
        if let Some(&moved) = self.queue.get(place) {
            self.seat(place, moved);
            self.rise(place);
            self.sink(index(self.places[index(moved.item)]));
        }
        if let Ok(slot) = self.slots.find_entry(spread(node.tag), |slot| slot.item == item) {
            slot.remove();
        }
        let removed = self.items.swap_remove(index(item));
        self.places.swap_remove(index(item));
        let renamed = self.len();
        if item < renamed {
            let node = &mut self.queue[index(self.places[index(item)])];
            node.item = item;
            if let Some(slot) = self.slots.find_mut(spread(node.tag), |slot| slot.item == renamed) {
                slot.item = item;
            }
        }
        self.shrink();
        removed
    }

    /// Gives memory back once three quarters are unused, so that the cost of moving is spread over many removals.
    fn shrink(&mut self) {
        let len = self.items.len();
        if self.items.capacity() > KEPT && len <= self.items.capacity() / 4 {
            let room = len * 2;
            self.items.shrink_to(room);
            self.places.shrink_to(room);
            self.queue.shrink_to(room);
            self.slots.shrink_to(room, |slot| spread(slot.tag));
        }
    }

    /// Returns how many places there is memory for, in all parts together.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        let vectors = self.items.capacity() + self.places.capacity() + self.queue.capacity();
        vectors + self.slots.capacity()
    }

    fn rise(&mut self, mut place: usize) {
        let rising = self.queue[place];
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if self.queue[parent].at <= rising.at {
                break;
            }
            self.seat(place, self.queue[parent]);
            place = parent;
        }
        self.seat(place, rising);
    }

    fn sink(&mut self, mut place: usize) {
        let sinking = self.queue[place];
        loop {
            let first = place * ARITY + 1;
            let children = first..(first + ARITY).min(self.queue.len());
            let Some(least) = children.min_by_key(|&child| self.queue[child].at) else {
                break;
            };
            if sinking.at <= self.queue[least].at {
                break;
            }
            self.seat(place, self.queue[least]);
            place = least;
        }
        self.seat(place, sinking);
    }

    fn seat(&mut self, place: usize, node: Node) {
        self.queue[place] = node;
        self.places[index(node.item)] = number(place);
    }
}

/// Makes the 64 bits a hash table wants of a tag: it looks at the lowest bits and at the highest seven.
fn spread(tag: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(tag)
}

/// A table holds fewer than 2^32 items: each takes well over a hundred bytes.
#[allow(clippy::cast_possible_truncation)]
fn number(index: usize) -> u32 {
    debug_assert!(u32::try_from(index).is_ok());
    index as u32
}

const fn index(number: u32) -> usize {
    number as usize
}

fn sooner(best: Option<(u64, u32)>, other: (u64, u32)) -> Option<(u64, u32)> {
    best.filter(|best| best.0 <= other.0).or(Some(other))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    struct Entry(Vec<u8>, u64);

    impl Item for Entry {
        fn key(&self) -> &[u8] {
            &self.0
        }
        fn due(&self) -> u64 {
            self.1
        }
    }

    /// Every number points where it should, and the heap is one.
    fn check(table: &Table<Entry>) {
        assert_eq!(table.items.len(), table.places.len());
        assert_eq!(table.items.len(), table.queue.len());
        assert_eq!(table.items.len(), table.slots.len());
        for (place, node) in table.queue.iter().enumerate() {
            assert_eq!(index(table.places[index(node.item)]), place);
            assert!(node.at <= table.get(node.item).due());
            assert!(place == 0 || table.queue[(place - 1) / ARITY].at <= node.at);
            let key = table.get(node.item).key();
            assert_eq!(table.find(node.tag, key), Some(node.item));
        }
    }

    /// Few tags, so that keys collide; a small generator, so that a failure repeats.
    #[test]
    fn a_random_history_agrees_with_a_plain_map() {
        let (mut table, mut model) = (Table::new(), BTreeMap::new());
        let mut seed = 7_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for round in 0..20_000_u64 {
            let number = random(300);
            let (key, tag) = (number.to_be_bytes().to_vec(), (number % 40) as u32);
            let due = round + random(1000);
            match (table.find(tag, &key), random(4)) {
                (None, _) => {
                    assert_eq!(model.insert(key.clone(), due), None);
                    table.insert(tag, Entry(key, due));
                }
                (Some(item), 0) => {
                    let removed = table.remove(item);
                    assert_eq!(model.remove(&key), Some(removed.1));
                }
                (Some(item), _) => {
                    table.get_mut(item).1 = due;
                    table.hasten(item);
                    model.insert(key, due);
                }
            }
            while let Some(item) = table.first_at(round) {
                if table.get(item).due() <= round {
                    let removed = table.remove(item);
                    assert_eq!(model.remove(&removed.0), Some(removed.1));
                } else {
                    table.settle(item);
                }
            }
            assert!(model.values().all(|&due| due > round));
            assert_eq!(model.len(), table.items.len());
            if round % 97 == 0 {
                check(&table);
                let nearest = table.nearest(None, usize::MAX);
                assert_eq!(nearest.map(|item| table.get(item).due()), model.values().min().copied());
            }
        }
    }

    #[test]
    fn an_emptied_table_gives_its_memory_back() {
        let mut table = Table::new();
        for number in 0..10_000_u32 {
            table.insert(number, Entry(number.to_be_bytes().to_vec(), 1));
        }
        while let Some(item) = table.first_at(1) {
            table.remove(item);
        }
        check(&table);
        assert!(table.places() <= 5 * KEPT, "{} left", table.places());
    }

    #[test]
    fn the_nearest_is_found_behind_renewed_ones_and_spares_the_exception() {
        let mut table = Table::new();
        for number in 0..100_u32 {
            table.insert(number, Entry(number.to_be_bytes().to_vec(), u64::from(number)));
        }
        for item in 0..50 {
            table.get_mut(item).1 += 1000;
        }
        assert_eq!(table.nearest(None, 256), Some(50));
        let next = table.nearest(Some(50), 256);
        assert!(next.is_some_and(|item| item != 50 && table.get(item).due() < 1000));
        table.insert(7, Entry(b"only".to_vec(), 1));
        let only = table.find(7, b"only");
        assert_eq!(table.nearest(None, 256), only);
    }

    #[test]
    fn the_only_item_is_not_nearest_to_itself() {
        let mut table = Table::new();
        table.insert(1, Entry(b"only".to_vec(), 1));
        assert_eq!(table.nearest(Some(0), 256), None);
    }
}
