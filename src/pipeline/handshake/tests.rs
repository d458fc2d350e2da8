//! Both ends of a connection, and someone between them.

use bytes::BytesMut;

use super::*;
use crate::store::Binding;
use crate::wire::frame::HEADER_BYTES;
use crate::wire::proof::{Keys, MIN_KEY_BYTES};

fn directory(node: NodeId) -> u128 {
    0x1111_2222_3333_4444_5555_6666_7777_8880 + u128::from(node)
}

fn introduction(node: NodeId) -> Introduction {
    Introduction {
        node,
        cluster: "demo".into(),
        protocol: "paxos".into(),
        founding: 1,
        directory: directory(node),
        start: 0x0123_4567_89ab,
        client_address: String::new(),
    }
}

/// Keys by their letters, as in `AB`: the first proves.
fn keys(letters: &str) -> Option<Keys> {
    let mut keys = letters.bytes().map(|letter| vec![letter; MIN_KEY_BYTES]);
    keys.next().map(|first| Keys::new(first, keys.next()))
}

fn trust_of(own: Introduction, letters: &str) -> Trust {
    let others = (1..=3).filter(|node| *node != own.node).collect::<Vec<_>>();
    Trust::new(own, keys(letters), others.into_iter())
}

fn trust(node: NodeId, letters: &str) -> Trust {
    trust_of(introduction(node), letters)
}

/// What both ends said, and how it ended.
#[derive(Debug)]
struct Talk {
    said: Vec<Greeting>,
    dialler: Result<Introduction, Failure>,
    listener: Result<Introduction, Failure>,
}

fn unfinished() -> Failure {
    Failure::Broken("unfinished".to_owned())
}

/// Node 1 dials node 2. Everything passes `on_the_way`.
fn talk_by(one: &mut Trust, two: &mut Trust, mut on_the_way: impl FnMut(Greeting) -> Greeting) -> Talk {
    let (mut dialler, hello) = Handshake::dial(one, 2, [1; 16]);
    let mut listener = Handshake::listen([2; 16]);
    let mut talk = Talk { said: vec![], dialler: Err(unfinished()), listener: Err(unfinished()) };
    let (mut next, mut to_listener) = (Some(hello), true);
    while let Some(greeting) = next.take() {
        talk.said.push(greeting.clone());
        let greeting = on_the_way(greeting);
        let (end, trust, outcome) = match to_listener {
            true => (&mut listener, &mut *two, &mut talk.listener),
            false => (&mut dialler, &mut *one, &mut talk.dialler),
        };
        next = match end.take(greeting, trust) {
            Ok(Reply::Say(greeting)) => Some(greeting),
            Ok(Reply::Open { theirs, say }) => {
                *outcome = Ok(theirs);
                say
            }
            Err(failure) => {
                let say =
                    if let Failure::Refused { say, .. } = &failure { say.as_deref().cloned() } else { None };
                *outcome = Err(failure);
                say
            }
        };
        to_listener = !to_listener;
    }
    talk
}

fn talk(one: &mut Trust, two: &mut Trust) -> Talk {
    talk_by(one, two, |greeting| greeting)
}

fn refused(outcome: &Result<Introduction, Failure>) -> &Refusal {
    match outcome {
        Err(Failure::Refused { refusal, .. } | Failure::RefusedByPeer { refusal, .. }) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn bytes_of(greeting: &Greeting) -> Vec<u8> {
    let mut out = BytesMut::new();
    greeting.encode(&mut out).unwrap();
    out.split_off(HEADER_BYTES).to_vec()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Members open a connection, with a key or without, and know each other then.
#[test]
fn members_open_a_connection() {
    for letters in ["", "A", "AB"] {
        let talk = talk(&mut trust(1, letters), &mut trust(2, letters));
        assert_eq!(talk.dialler, Ok(introduction(2)), "{letters}");
        assert_eq!(talk.listener, Ok(introduction(1)), "{letters}");
        assert_eq!(talk.said.len(), 4);
    }
}

/// Keys are replaced while the cluster runs: in each step, nodes that have taken it and nodes that have
/// not work together, in either direction. Nodes without a key in common never do.
#[test]
fn keys_are_replaced_in_steps() {
    let steps = ["A", "AB", "BA", "B"];
    for (dialler, listener) in
        steps.iter().zip(&steps[1..]).flat_map(|(a, b)| [(a, b), (b, a), (a, a), (b, b)])
    {
        let talk = talk(&mut trust(1, dialler), &mut trust(2, listener));
        assert!(talk.dialler.is_ok() && talk.listener.is_ok(), "{dialler} dials {listener}: {talk:?}");
    }
    for (dialler, listener) in [("A", "B"), ("B", "A"), ("A", "BA"), ("AB", "C"), ("C", "AB")] {
        let talk = talk(&mut trust(1, dialler), &mut trust(2, listener));
        assert_eq!(refused(&talk.dialler).code, RefusalCode::Proof, "{dialler} dials {listener}");
        assert_eq!(refused(&talk.listener).code, RefusalCode::Proof, "and the listener is told");
    }
}

/// A node with a key and one without refuse each other, and both logs say why.
#[test]
fn a_node_with_a_key_and_one_without_refuse_each_other() {
    for (dialler, listener) in [("A", ""), ("", "A")] {
        let talk = talk(&mut trust(1, dialler), &mut trust(2, listener));
        for outcome in [&talk.dialler, &talk.listener] {
            let refusal = refused(outcome);
            assert_eq!(refusal.code, RefusalCode::Key);
            assert!(refusal.to_string().contains("peers_key"), "{refusal}");
        }
    }
}

/// A greeting that is changed on the way, in any field, no longer has its proof.
#[test]
fn a_proof_covers_everything_that_is_said() {
    type Change = fn(&mut Hello);
    let changes: [Change; 5] = [
        |hello| hello.version += 1,
        |hello| hello.lowest_version -= 1,
        |hello| hello.nonce[15] ^= 1,
        |hello| hello.from = 5 - hello.from,
        |hello| hello.proof = hello.proof.map(|proof| proof.map(|byte| byte ^ 1)),
    ];
    for which in [0, 1] {
        for (number, change) in changes.iter().enumerate() {
            let mut count = 0;
            let talk = talk_by(&mut trust(1, "A"), &mut trust(2, "A"), |mut greeting| {
                if let Greeting::Hello(hello) = &mut greeting {
                    if count == which {
                        change(hello);
                    }
                    count += 1;
                }
                greeting
            });
            let is_untouched = which == 0 && number == 4;
            assert_eq!(talk.dialler.is_ok(), is_untouched, "hello {which}, change {number}: {talk:?}");
            assert_eq!(talk.listener.is_ok(), is_untouched, "hello {which}, change {number}: {talk:?}");
        }
    }
    for which in [0, 1] {
        let mut count = 0;
        let talk = talk_by(&mut trust(1, "A"), &mut trust(2, "A"), |mut greeting| {
            if let Greeting::Introduction(signed) = &mut greeting {
                if count == which {
                    let other = Introduction { directory: 5, ..introduction([1, 2][which]) };
                    signed.introduction = other.encode();
                }
                count += 1;
            }
            greeting
        });
        let outcome = [&talk.listener, &talk.dialler][which];
        assert_eq!(refused(outcome).code, RefusalCode::Proof, "introduction {which}");
    }
}

/// Someone who has recorded a connection cannot open another one with it, as either end.
#[test]
fn a_replay_is_refused() {
    let recorded = talk(&mut trust(1, "A"), &mut trust(2, "A")).said;
    let mut two = trust(2, "A");
    let mut listener = Handshake::listen([3; 16]);
    assert!(matches!(listener.take(recorded[0].clone(), &mut two), Ok(Reply::Say(_))));
    let failure = listener.take(recorded[2].clone(), &mut two).unwrap_err();
    assert_eq!(refused(&Err(failure)).code, RefusalCode::Proof);

    let mut one = trust(1, "A");
    let (mut dialler, _) = Handshake::dial(&one, 2, [4; 16]);
    let failure = dialler.take(recorded[1].clone(), &mut one).unwrap_err();
    assert_eq!(refused(&Err(failure)).code, RefusalCode::Proof);
}

/// Someone who lets members prove things to him cannot pass for one of them with that: neither to the
/// same member, nor to the member in whose name he asks.
#[test]
fn a_reflection_is_refused() {
    // To node 1, which dials, he says what node 1 says itself.
    let mut one = trust(1, "A");
    let (mut dialler, hello) = Handshake::dial(&one, 2, [1; 16]);
    assert!(matches!(dialler.take(hello.clone(), &mut one), Err(Failure::Broken(_))));
    // In the name of node 2 he calls node 1, and has it prove itself as a listener over the nonce of its
    // own call.
    let Greeting::Hello(hello) = hello else { panic!("not a hello") };
    let mut listener = Handshake::listen([9; 16]);
    let call = Hello { from: 2, to: 1, ..hello };
    let Ok(Reply::Say(Greeting::Hello(answer))) = listener.take(Greeting::Hello(call), &mut one) else {
        panic!("not answered")
    };
    for turned in [answer.clone(), Hello { from: 2, to: 1, ..answer }] {
        let (mut dialler, _) = Handshake::dial(&one, 2, [1; 16]);
        assert!(dialler.take(Greeting::Hello(turned), &mut one).is_err());
    }
    // What a dialler proves is no proof of a listener on the same connection.
    let mut said = vec![];
    let talk = talk_by(&mut trust(1, "A"), &mut trust(2, "A"), |greeting| {
        said.push(greeting.clone());
        if said.len() == 4 { said[2].clone() } else { greeting }
    });
    assert_eq!(refused(&talk.dialler).code, RefusalCode::Proof);
}

/// A stranger at either end of a connection never hears a directory id, a start or a name.
#[test]
fn a_stranger_is_told_nothing() {
    let secrets = |node: NodeId| {
        let directory = directory(node);
        let halves = [(directory >> 64) as u64, directory as u64].map(u64::to_le_bytes);
        [halves[0].to_vec(), halves[1].to_vec(), b"demo".to_vec(), b"paxos".to_vec()]
    };
    let check = |said: &[u8], node| {
        for secret in secrets(node) {
            assert!(!contains(said, &secret), "{said:x?} has {secret:x?}");
        }
    };
    let full = talk(&mut trust(1, "A"), &mut trust(2, "A")).said;
    let all: Vec<u8> = full.iter().flat_map(bytes_of).collect();
    assert!(secrets(1).iter().chain(&secrets(2)).all(|secret| contains(&all, secret)), "the test sees them");

    for letters in ["A", ""] {
        // He listens, with another key, or with none where there should be one.
        let mut stranger = trust(2, if letters == "A" { "X" } else { "A" });
        let talk = talk_by(&mut trust(1, letters), &mut stranger, |greeting| greeting);
        assert!(talk.dialler.is_err());
        let heard: Vec<u8> = talk.said.iter().step_by(2).flat_map(bytes_of).collect();
        check(&heard, 1);
        // He dials.
        let mut stranger = trust(1, if letters == "A" { "X" } else { "A" });
        let talk = talk_by(&mut stranger, &mut trust(2, letters), |greeting| greeting);
        assert!(talk.listener.is_err());
        let heard: Vec<u8> = talk.said.iter().skip(1).step_by(2).flat_map(bytes_of).collect();
        check(&heard, 2);
    }
    // Refusals before any proof: every one is a code.
    let hello = |from, to, version| Hello {
        version,
        lowest_version: version,
        from,
        to,
        nonce: [5; 16],
        has_key: true,
        proof: None,
    };
    for (call, code) in [
        (hello(2, 2, WIRE_VERSION), RefusalCode::OwnNode),
        (hello(77, 2, WIRE_VERSION), RefusalCode::UnknownNode),
        (hello(1, 3, WIRE_VERSION), RefusalCode::OtherNode),
        (hello(1, 2, WIRE_VERSION + 9), RefusalCode::Version),
    ] {
        let failure = Handshake::listen([6; 16]).take(Greeting::Hello(call), &mut trust(2, "A")).unwrap_err();
        let Failure::Refused { refusal, say } = failure else { panic!("{failure:?}") };
        assert_eq!(refusal.code, code);
        assert!(!refusal.text.is_empty(), "this node's log has both values");
        let code_alone = Greeting::Refusal(Refusal { code, text: String::new(), proof: None });
        assert_eq!(say.as_deref(), Some(&code_alone));
    }
}

/// A member that proved itself is told both values; in a cluster without a key it is told a code. What a
/// stranger writes into a refusal is never shown.
#[test]
fn only_a_proof_gives_a_refusal_words() {
    for (letters, has_words) in [("A", true), ("", false)] {
        let other = Introduction { protocol: "raft".into(), ..introduction(1) };
        let talk = talk(&mut trust_of(other, letters), &mut trust(2, letters));
        let here = refused(&talk.listener);
        assert!(here.text.contains("paxos here, raft there"), "{here}");
        let there = refused(&talk.dialler);
        assert_eq!(there.code, RefusalCode::Protocol);
        assert_eq!(there.text.contains("paxos here, raft there"), has_words, "{there}");
    }
    let words = Greeting::Refusal(Refusal::new(RefusalCode::Protocol, "buy at example.org"));
    for letters in ["A", ""] {
        let mut one = trust(1, letters);
        let (mut dialler, _) = Handshake::dial(&one, 2, [1; 16]);
        let failure = dialler.take(words.clone(), &mut one).unwrap_err();
        assert_eq!(refused(&Err(failure)).text, "");
    }
}

/// A wiped node is told by a member that proved itself, and must end. Anyone else who says so is counted.
#[test]
fn a_wrong_directory_is_believed_of_a_proven_member_alone() {
    let wiped = || Introduction { directory: 5, ..introduction(1) };
    for (letters, ends) in [("A", vec![2]), ("", vec![])] {
        let mut two = trust(2, letters);
        two.bind(Binding { node: 1, directory: directory(1) });
        let talk = talk(&mut trust_of(wiped(), letters), &mut two);
        let Err(Failure::RefusedByPeer { refusal, is_disowned, end_on_word_of }) = talk.dialler else {
            panic!("{talk:?}")
        };
        assert_eq!((refusal.code, is_disowned), (RefusalCode::WrongDirectory, true));
        assert_eq!(end_on_word_of, ends, "{letters}");
    }
    // A stranger's word, in every stage of a connection.
    for letters in ["A", ""] {
        let lie = Greeting::Refusal(Refusal {
            proof: Some([1; 32]),
            ..Refusal::new(RefusalCode::WrongDirectory, "x")
        });
        for stage in 0..3 {
            let mut one = trust(1, letters);
            let (mut dialler, hello) = Handshake::dial(&one, 2, [1; 16]);
            let (mut two, mut listener) = (trust(2, letters), Handshake::listen([2; 16]));
            let mut next = hello;
            for _ in 0..stage {
                let Ok(Reply::Say(said) | Reply::Open { say: Some(said), .. }) =
                    listener.take(next, &mut two)
                else {
                    panic!("a member is refused")
                };
                next = match dialler.take(said, &mut one) {
                    Ok(Reply::Say(said)) => said,
                    Ok(Reply::Open { .. }) => break,
                    other => panic!("{other:?}"),
                };
            }
            let Err(Failure::RefusedByPeer { end_on_word_of, .. }) = dialler.take(lie.clone(), &mut one)
            else {
                panic!("not a refusal")
            };
            assert!(end_on_word_of.is_empty(), "{letters}, stage {stage}");
        }
    }
    // What a dialler says ends nobody: anyone can dial.
    let mut two = trust(2, "");
    let lie = Greeting::Refusal(Refusal::new(RefusalCode::WrongDirectory, ""));
    for _ in 0..3 {
        let failure = Handshake::listen([3; 16]).take(lie.clone(), &mut two).unwrap_err();
        let Failure::RefusedByPeer { is_disowned, end_on_word_of, .. } = failure else {
            panic!("{failure:?}")
        };
        assert!(!is_disowned && end_on_word_of.is_empty());
    }
}

/// A second hello, an introduction that comes first, and one in another's name are no greetings.
#[test]
fn greetings_out_of_order_are_refused() {
    let mut two = trust(2, "");
    let mut one = trust(1, "");
    let said = talk(&mut one, &mut two).said;
    let broken = |handshake: &mut Handshake, greeting: &Greeting, trust: &mut Trust| {
        assert!(matches!(handshake.take(greeting.clone(), trust), Err(Failure::Broken(_))));
    };
    broken(&mut Handshake::listen([1; 16]), &said[2], &mut two);
    let mut listener = Handshake::listen([1; 16]);
    assert!(listener.take(said[0].clone(), &mut two).is_ok());
    broken(&mut listener, &said[0], &mut two);
    let other = Greeting::Introduction(Signed { introduction: introduction(3).encode(), proof: None });
    broken(&mut listener, &other, &mut two);
}
