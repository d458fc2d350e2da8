//! One test, run under each protocol, as a test case of its own.

/// Makes of `fn rule(protocol: ProtocolName)` the tests `rule::paxos` and `rule::raft`. Of a function that is
/// not named here the compiler says that nobody calls it.
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
