//! One test, run under each protocol, as a test case of its own.

/// Makes the tests `rule::paxos` and `rule::raft` from `fn rule(protocol: ProtocolName)`. The compiler
/// reports a function that is not named here as never called.
macro_rules! each_protocol {
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
