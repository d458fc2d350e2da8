//! How a node sees its clients' proposals to the leader, and what a leader takes from others.
//!
//! A proposal goes to the leader when it comes, and again when it is older than the wait and still not
//! known to be chosen: the message may be lost, or the leader may have had no room (its own clients always
//! leave some for what is forwarded: [`Proposals::CAPACITY`]). The wait begins with two heartbeat intervals
//! and doubles each time anything is sent again, up to T, so that a leader which is slow is not sent
//! everything twice; it begins anew with a new leader, and when nothing is under way. A new leader is sent
//! all proposals, since the one before took what it held along.
//!
//! A request that is sent again may be chosen already. The leader does not place it twice: it knows what it
//! holds, and remembers what was chosen lately ([`ChosenRequests`](super::chosen::ChosenRequests)). It drops
//! such a request without a word, since the node that sent it will find it in the log. (It does place it if
//! that node is known to have it in its log already: then a client proposes it again there, and the ledger of
//! that node has forgotten it.) A node that is far behind the leader's watermark sends nothing again: what it
//! lacks may hold its requests, and by then the leader may no longer remember them. Nor could it answer its
//! clients before it has caught up.
//!
//! So without a change of leader, a lost connection or a client that repeats itself, the log has each request
//! once (`tests/forwarding.rs`).

use super::batch::Batch;
use super::chosen::ChosenRequests;
use super::member::{Member, pages};
use super::message::ClusterBody;
use super::proposals::Proposals;
use super::protocol::Proposal;
use super::types::{Command, Index, Kind, MAX_PAYLOAD_BYTES, NodeId, RequestId};

/// A node that lacks more than this of what the leader said is chosen sends nothing again. The other half of
/// what a leader remembers is for what is chosen while the message is under way.
const MAX_LAG: Index = ChosenRequests::CAPACITY as Index / 2;

impl Member {
    pub(super) fn proposals(&self) -> &Proposals {
        &self.proposals
    }

    pub(super) fn proposals_mut(&mut self) -> &mut Proposals {
        &mut self.proposals
    }

    /// Takes proposals of this node's clients. If another node leads, they are passed on; if this one does,
    /// it places them next.
    pub(super) fn take_proposals(&mut self, proposals: Vec<Proposal>, out: &mut Batch) {
        for proposal in proposals {
            self.proposals.add_own(proposal);
        }
        self.forward_new(out);
    }

    /// Takes proposals that a follower passed on to this leader. What this version could not deliver is not
    /// proposed: once chosen, it would stop every node that does not know it.
    pub(super) fn take_forwarded(&mut self, from: NodeId, commands: Vec<Command>) {
        let its_chosen = self.watermark(from);
        for command in commands {
            let sound = command.request != RequestId::NONE
                && command.from == from
                && !matches!(command.kind, Kind::Noop | Kind::Unknown(_))
                && command.payload.len() <= MAX_PAYLOAD_BYTES;
            if !sound {
                self.ignore();
                continue;
            }
            let chosen = self.proposals.chosen_at(command.request);
            let it_will_learn = chosen.is_some_and(|index| index > its_chosen);
            if !it_will_learn && !self.proposals.add_forwarded(command) {
                self.count_dropped(1);
            }
        }
    }

    /// Sends the leader what it was not sent yet.
    pub(super) fn forward_new(&mut self, out: &mut Batch) {
        let Some(leader) = self.other_leader() else { return };
        if !self.proposals.has_forwarded() {
            self.forward_wait_ms = 2 * self.heartbeat_ms();
        }
        let commands = self.proposals.forward_waiting(self.now_ms());
        self.forward(leader, commands, out);
    }

    /// Sends the leader again what is older than the wait. `chosen` is this node's watermark.
    pub(super) fn tick_forwarding(&mut self, chosen: Index, out: &mut Batch) {
        let Some(leader) = self.other_leader() else { return };
        let Some(until_ms) = self.now_ms().checked_sub(self.forward_wait_ms) else { return };
        if self.watermark(leader) > chosen + MAX_LAG {
            return;
        }
        let commands = self.proposals.forward_again(until_ms, self.now_ms());
        if !commands.is_empty() {
            self.forward_wait_ms = (2 * self.forward_wait_ms).min(self.election_ms());
        }
        self.forward(leader, commands, out);
    }

    fn forward(&self, leader: NodeId, commands: Vec<Command>, out: &mut Batch) {
        if commands.is_empty() {
            return;
        }
        for commands in pages(commands, |command| command) {
            self.send_early(leader, ClusterBody::Forward { commands }, out);
        }
    }
}
