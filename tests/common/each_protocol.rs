//! One test, run under each protocol, as a test case of its own.

/// Makes the tests `rule::paxos` and `rule::raft` from `fn rule(protocol: ProtocolName)`. The compiler
/// reports a function that is not named here as never called. Tests after `ignored:` run only when asked for.
macro_rules! each_protocol {
    (ignored: $($test:ident),+ $(,)?) => {$(
        mod $test {
            use spaxos::consensus::protocols::ProtocolName;

            #[test]
            #[ignore = "takes long"]
            fn paxos() {
                super::$test(ProtocolName::Paxos);
            }

            #[test]
            #[ignore = "takes long"]
            fn raft() {
                super::$test(ProtocolName::Raft);
            }
        }
    )+};
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            use spaxos::consensus::protocols::ProtocolName;

            #[test]
            fn paxos() {
                super::$test(ProtocolName::Paxos);
            }

            #[test]
            fn raft() {
                super::$test(ProtocolName::Raft);
            }
        }
    )+};
}
