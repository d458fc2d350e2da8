//! What a core holds, in which order, and when it is full.

use proptest::prelude::*;

use super::*;

const NONE: Load = Load { requests: 0, bytes: 0 };

fn proposal(reqid: u64, deadline_ms: u64) -> Proposal {
    Proposal { command: Command::value(reqid, 1, "v"), deadline_ms }
}

/// The numbers of own requests that are not chosen yet, in order of arrival.
fn own(proposals: &Proposals) -> Vec<u64> {
    let held = proposals.expiry.iter().filter_map(|(_, arrival)| arrival.of(&proposals.held));
    held.map(|held| held.command.request.number).collect()
}

#[test]
fn a_request_is_placed_once_and_gone_when_chosen() {
    let mut proposals = Proposals::new(1);
    assert!(proposals.add_own(proposal(1, 100)));
    assert!(!proposals.add_own(proposal(1, 200)));
    assert!(proposals.add_forwarded(Command::value(2, 2, "w")));
    assert_eq!(proposals.place_next(5, |_| true).unwrap().request, RequestId::user(1));
    assert!(proposals.add_forwarded(Command::value(1, 2, "v")), "it is held");
    assert_eq!(proposals.place_next(6, |_| false), None);
    assert_eq!(proposals.place_next(6, |_| true).unwrap().request, RequestId::user(2));
    proposals.chosen(RequestId::user(1), 1);
    proposals.chosen(RequestId::user(2), 1);
    assert_eq!((proposals.len(), proposals.own, proposals.others), (0, NONE, NONE));
}

#[test]
fn own_requests_wait_again_after_a_change_of_leader_until_out_of_time() {
    let mut proposals = Proposals::new(1);
    proposals.add_own(proposal(1, 100));
    proposals.add_own(proposal(2, 150));
    proposals.add_own(proposal(1, 200));
    proposals.add_forwarded(Command::value(3, 2, "w"));
    proposals.place_next(5, |_| true).unwrap();
    proposals.restart();
    assert_eq!(proposals.len(), 2);
    proposals.expire(160);
    assert_eq!(own(&proposals), [1]);
    assert_eq!(proposals.place_next(6, |_| true).unwrap().request, RequestId::user(1));
    proposals.expire(200);
    assert_eq!(proposals.len(), 1, "what is placed may still be chosen");
    proposals.restart();
    assert_eq!((proposals.len(), proposals.own, proposals.others), (0, NONE, NONE));
    assert_eq!(proposals.place_next(6, |_| true), None);
}

/// A request that was chosen and comes again, maybe more than once, is placed and forwarded once.
#[test]
fn one_that_comes_again_is_named_once() {
    let mut proposals = Proposals::new(1);
    for _ in 0..3 {
        proposals.add_own(proposal(1, 100));
        proposals.chosen(RequestId::user(1), 1);
    }
    proposals.add_own(proposal(1, 100));
    assert_eq!(own(&proposals), [1]);
    assert!(proposals.place_next(6, |_| true).is_some());
    assert_eq!(proposals.place_next(6, |_| true), None);
}

/// A node that only forwards keeps nothing of requests that are chosen.
#[test]
fn the_queues_stay_bounded() {
    let mut proposals = Proposals::new(1);
    proposals.add_own(proposal(1, 100));
    for reqid in 2..3 * Proposals::CAPACITY as u64 {
        proposals.add_own(proposal(reqid, 100));
        proposals.chosen(RequestId::user(reqid), 1);
    }
    assert!(proposals.waiting.len() <= 2 * Proposals::CAPACITY, "{}", proposals.waiting.len());
    assert!(proposals.expiry.len() <= 2 * Proposals::CAPACITY, "{}", proposals.expiry.len());
    assert_eq!(own(&proposals), [1]);
}

/// A request that another node forwarded and this node's client proposes as well is repeated under this
/// node's name: the next leader takes it from nobody else.
#[test]
fn a_forwarded_one_becomes_own() {
    let mut proposals = Proposals::new(1);
    proposals.add_forwarded(Command::value(1, 2, "longer"));
    assert!(!proposals.add_own(proposal(1, 100)));
    proposals.restart();
    let from: Vec<_> = proposals.forward_waiting(1).iter().map(|command| command.from).collect();
    assert_eq!(from, [1]);
    proposals.chosen(RequestId::user(1), 1);
    assert_eq!((proposals.len(), proposals.own, proposals.others), (0, NONE, NONE));
}

/// Own requests and forwarded ones each have a quarter for themselves; the rest goes to the first side.
#[test]
fn full_is_full() {
    const QUARTER: u64 = Proposals::CAPACITY as u64 / 4;
    for own in (0..=4 * QUARTER).step_by(QUARTER as usize / 2) {
        let mut proposals = Proposals::new(1);
        let (mut taken, mut from) = (0, 1..);
        let mut next = || from.next().expect("endless");
        for _ in 0..own {
            taken += u64::from(proposals.add_own(proposal(next(), 100)));
        }
        assert_eq!(taken, own.min(3 * QUARTER));
        while proposals.add_forwarded(Command::value(next(), 2, "v")) {}
        assert_eq!(proposals.others.requests as u64, (4 * QUARTER - taken).min(3 * QUARTER), "{taken} own");
        assert_eq!(proposals.room() as u64, QUARTER.saturating_sub(taken), "{taken} own");
        while proposals.add_own(proposal(next(), 100)) {}
        assert_eq!((proposals.room(), proposals.len()), (0, Proposals::CAPACITY));
        assert!(proposals.add_forwarded(Command::value(1, 2, "v")) || own == 0, "it is held");
    }
}

/// The same holds for bytes, of which a list of own ones, which is taken whole, may take too many.
#[test]
fn bytes_are_shared() {
    const QUARTER: usize = Proposals::CAPACITY_BYTES / 4;
    let of = |reqid, bytes: usize| Command::value(reqid, 2, vec![b'x'; bytes - 64]);
    let own = |reqid, bytes| Proposal { command: of(reqid, bytes), deadline_ms: 100 };
    let mut proposals = Proposals::new(1);
    assert!(proposals.add_own(own(1, 3 * QUARTER - 1)));
    assert!(proposals.room() > 0);
    assert!(proposals.add_own(own(2, 2 * QUARTER)), "the rest of a list");
    assert_eq!(proposals.room(), 0);
    assert!(proposals.add_forwarded(of(3, QUARTER - 1)) && proposals.add_forwarded(of(4, 2 * QUARTER + 1)));
    assert!(!proposals.add_forwarded(of(5, 64)), "a quarter is left, whatever own ones take");
    proposals.chosen(RequestId::user(2), 1);
    proposals.chosen(RequestId::user(1), 2);
    assert!(!proposals.add_forwarded(of(5, 64)), "they have three quarters");
    assert!(proposals.add_own(own(6, QUARTER - 1)));
    assert!(proposals.room() > 0);
    assert!(proposals.add_own(own(7, 64)));
    assert_eq!(proposals.room(), 0);
}

/// A request counts as own until it is chosen: neither its deadline nor another node that forwards it
/// makes room for more.
#[test]
fn own_ones_stay_own() {
    let most = Proposals::CAPACITY as u64 / 4 * 3;
    let mut proposals = Proposals::new(1);
    proposals.add_forwarded(Command::value(1, 2, "v"));
    for reqid in 1..=most {
        assert_eq!(proposals.add_own(proposal(reqid, 100)), reqid != 1);
        assert!(proposals.place_next(reqid, |_| true).is_some());
    }
    assert_eq!((proposals.own.requests as u64, proposals.others), (most, NONE));
    proposals.expire(100);
    assert!(proposals.add_forwarded(Command::value(1, 2, "v")));
    assert!(proposals.add_forwarded(Command::value(most + 1, 2, "v")));
    assert!(!proposals.add_own(proposal(most + 1, 200)) && !proposals.add_own(proposal(most + 2, 200)));
    assert_eq!((proposals.room(), proposals.own.requests as u64, proposals.others.requests), (0, most, 1));
    proposals.restart();
    assert_eq!((proposals.len(), proposals.own, proposals.others), (0, NONE, NONE));
}

/// What a new leader adopts is held in any case, and leaves own ones their share.
#[test]
fn adopted_ones_leave_a_share() {
    let mut proposals = Proposals::new(1);
    for reqid in 1..=Proposals::CAPACITY as u64 {
        proposals.adopted(&Command::value(reqid, 2, "v"), reqid);
    }
    assert_eq!((proposals.len(), proposals.room()), (Proposals::CAPACITY, Proposals::CAPACITY / 4));
    assert!(!proposals.add_forwarded(Command::value(Proposals::CAPACITY as u64 + 1, 2, "v")));
}

#[derive(Clone, Debug)]
enum Step {
    Own(u64, usize),
    Forwarded(u64, usize),
    /// Whether the next one that waits fits.
    Next(bool),
    Adopted(u64, usize),
    Chosen(u64),
    Restart,
    Expire(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (reqid, len) = (1..8u64, 0..9usize);
    prop_oneof![
        3 => (reqid.clone(), len.clone()).prop_map(|(reqid, len)| Step::Own(reqid, len)),
        3 => (reqid.clone(), len.clone()).prop_map(|(reqid, len)| Step::Forwarded(reqid, len)),
        3 => any::<bool>().prop_map(Step::Next),
        1 => (reqid.clone(), len).prop_map(|(reqid, len)| Step::Adopted(reqid, len)),
        2 => reqid.prop_map(Step::Chosen),
        1 => Just(Step::Restart),
        2 => (1..40u64).prop_map(Step::Expire),
    ]
}

#[derive(Debug)]
struct Known {
    reqid: u64,
    len: usize,
    /// The deadline of an own request that is not out of time.
    deadline_ms: Option<u64>,
    placed: bool,
    waits: bool,
}

/// A short list that does what [`Proposals`] does, without its maps, queues and counters. Here all own
/// ones have the same time from their arrival on, as at the client port.
#[derive(Default)]
struct Model {
    /// In order of arrival.
    known: Vec<Known>,
    /// In order of arrival as own.
    own: Vec<u64>,
    now_ms: u64,
}

impl Model {
    const TTL_MS: u64 = 50;

    fn add(&mut self, reqid: u64, len: usize, waits: bool) -> bool {
        let new = self.known.iter().all(|known| known.reqid != reqid);
        if new {
            self.known.push(Known { reqid, len, deadline_ms: None, placed: false, waits });
        }
        new
    }

    fn known(&mut self, reqid: u64) -> &mut Known {
        self.known.iter_mut().find(|known| known.reqid == reqid).unwrap()
    }

    fn add_own(&mut self, reqid: u64, len: usize) -> bool {
        let new = self.add(reqid, len, true);
        let deadline_ms = self.now_ms + Model::TTL_MS;
        let known = self.known(reqid);
        if known.deadline_ms.is_none() {
            (known.len, known.deadline_ms) = (len, Some(deadline_ms));
            self.own.push(reqid);
        }
        new
    }

    fn next(&mut self, fits: bool) -> Option<u64> {
        let next = self.known.iter_mut().find(|known| known.waits && !known.placed).filter(|_| fits)?;
        (next.waits, next.placed) = (false, true);
        Some(next.reqid)
    }

    fn remove(&mut self, gone: impl Fn(&Known) -> bool) {
        self.known.retain(|known| !gone(known));
        self.own.retain(|reqid| self.known.iter().any(|k| k.reqid == *reqid && k.deadline_ms.is_some()));
    }

    fn restart(&mut self) {
        self.remove(|known| known.deadline_ms.is_none());
        self.known.sort_by_key(|known| self.own.iter().position(|own| *own == known.reqid));
        for known in &mut self.known {
            (known.placed, known.waits) = (false, true);
        }
    }

    fn expire(&mut self) {
        let now_ms = self.now_ms;
        let late = |known: &Known| known.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms);
        for known in self.known.iter_mut().filter(|known| late(known) && known.placed) {
            known.deadline_ms = None;
        }
        self.remove(late);
    }
}

proptest! {
    /// Requests are held, placed, forwarded and given up as a short list of them would be.
    #[test]
    fn behaves_as_a_list(steps in prop::collection::vec(step(), 1..100)) {
        let (mut proposals, mut model) = (Proposals::new(1), Model::default());
        for step in steps {
            match step {
                Step::Own(reqid, len) => {
                    let held = model.known.iter().find(|known| known.reqid == reqid);
                    // Longer waiting is another test's subject.
                    if held.is_some_and(|held| held.deadline_ms.is_some()) {
                        continue;
                    }
                    let command = Command::value(reqid, 1, vec![b'x'; len]);
                    let deadline_ms = model.now_ms + Model::TTL_MS;
                    let added = proposals.add_own(Proposal { command, deadline_ms });
                    prop_assert_eq!(added, model.add_own(reqid, len));
                }
                Step::Forwarded(reqid, len) => {
                    prop_assert!(proposals.add_forwarded(Command::value(reqid, 2, vec![b'x'; len])));
                    model.add(reqid, len, true);
                }
                Step::Next(fits) => {
                    let next = proposals.place_next(6, |_| fits);
                    prop_assert_eq!(next.as_ref().map(|next| next.request.number), model.next(fits));
                }
                Step::Adopted(reqid, len) => {
                    proposals.adopted(&Command::value(reqid, 2, vec![b'x'; len]), 1);
                    proposals.adopted(&Command::noop(2), 2);
                    model.add(reqid, len, false);
                    model.known(reqid).placed = true;
                }
                Step::Chosen(reqid) => {
                    proposals.chosen(RequestId::user(reqid), 1);
                    model.remove(|known| known.reqid == reqid);
                }
                Step::Restart => {
                    proposals.restart();
                    model.restart();
                }
                Step::Expire(ms) => {
                    model.now_ms += ms;
                    proposals.expire(model.now_ms);
                    model.expire();
                }
            }
            prop_assert_eq!(own(&proposals), model.own.clone());
            prop_assert_eq!(proposals.len(), model.known.len());
            prop_assert_eq!(proposals.is_empty(), model.known.is_empty());
            prop_assert_eq!(proposals.own.requests + proposals.others.requests, model.known.len());
            let bytes = model.known.iter().map(|known| 64 + known.len).sum::<usize>();
            prop_assert_eq!(proposals.own.bytes + proposals.others.bytes, bytes);
        }
    }
}
