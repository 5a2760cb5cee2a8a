//! Workers, clients and a God that dies again and again at random moments: each client is served exactly once.
//!
//! In the test God can die at an await only, where no step is half done. A killed God can leave half a step, so the
//! test makes such states: a connection that was accepted and has no slot, one that is marked as handed over and was
//! not sent, lines that were handled and not taken out of the channel.

use std::collections::VecDeque;

use super::*;

/// Pseudo-random numbers (xorshift): the same for the same seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// True in this share of all calls.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A worker that answers late, refuses some connections, and answers each of the others with one byte.
struct Player {
    fake: Fake,
    run: u64,
    /// Connections that it has accepted and not served yet.
    taken: Vec<OwnedFd>,
    /// The last lines that it sent.
    wrote: VecDeque<Value>,
}

impl Player {
    async fn join(stage: &Stage, run: u64) -> Player {
        let mut player = Player { fake: stage.worker(run), run, taken: Vec::new(), wrote: VecDeque::new() };
        player.fake.listen(0).await;
        player
    }

    fn send(&mut self, line: Value) {
        self.fake.send(&line);
        self.wrote.push_back(line);
        if self.wrote.len() > 5 {
            self.wrote.pop_front();
        }
    }

    /// Reads up to this many lines that have come, and handles them as Node does: it acknowledges all of them first.
    fn act(&mut self, random: &mut Random, lines: u64) {
        let mut read = Vec::new();
        for _ in 0..lines {
            self.fake.receive_now();
            let Some(line) = self.fake.take_line() else { break };
            if line["cmd"] == "NODE_HANDLE" {
                let file = self.fake.files.borrow_mut().pop_front().expect("each comes with its file");
                self.send(json!({"cmd": "NODE_HANDLE_ACK"}));
                read.push((line, file));
            }
        }
        for (line, file) in read {
            let accepted = line["msg"]["key"] == self.fake.key && !random.percent(10);
            self.send(json!({"cmd": "NODE_CLUSTER", "ack": line["msg"]["seq"], "accepted": accepted, "seq": 1}));
            if accepted {
                self.taken.push(file);
            }
        }
        for socket in self.taken.drain(..) {
            let mut socket = TcpStream::from(socket);
            std::io::Write::write_all(&mut socket, b"x").unwrap();
        }
    }

    /// Sends some of its last lines again, as if the previous God had handled them and died before it took them out of
    /// the channel.
    fn repeat_lines(&mut self, random: &mut Random) {
        if fdpass::unread(self.fake.socket.get_ref()).unwrap() == 0 {
            let count = random.below(self.wrote.len() as u64 + 1) as usize;
            for line in self.wrote.iter().skip(self.wrote.len() - count) {
                self.fake.send(line);
            }
        }
    }
}

/// Changes what God left as if it had been killed in the middle of a step.
pub(crate) fn interrupt_step(remains: &mut Remains, random: &mut Random, seq: u64) {
    let Some(at) = remains.connections.iter().position(|(_, place)| matches!(place, Place::Waiting { .. })) else {
        return;
    };
    if random.percent(50) {
        let (socket, _) = remains.connections.swap_remove(at);
        remains.rest.push(socket);
    } else if random.percent(70)
        && let Place::Waiting { listener, .. } = remains.connections[at].1
    {
        let run = 1 + random.below(6);
        remains.connections[at].1 = Place::Handed { listener, run, seq };
    }
}

async fn scenario(seed: u64) {
    let mut random = Random(seed);
    let mut stage = Stage::new();
    let mut players = Vec::new();
    for run in 1..=3 {
        players.push(Player::join(&stage, run).await);
    }
    let at = players[0].fake.at();
    let (mut clients, mut next_run, mut deaths) = (Vec::new(), 4, 0);
    for step in 0..400 {
        if clients.len() < 120 && random.percent(40) {
            clients.push(TcpStream::connect(at).expect("never refused"));
        }
        for player in &mut players {
            let lines = random.below(4);
            player.act(&mut random, lines);
        }
        if random.percent(60) {
            tokio::task::yield_now().await;
        }
        if random.percent(12) {
            deaths += 1;
            let mut remains = stage.die().await;
            let unsent = (remains.generation << 32) + (1 << 31) + step;
            interrupt_step(&mut remains, &mut random, unsent);
            players.iter_mut().for_each(|player| player.repeat_lines(&mut random));
            stage = remains.recover();
        }
        if random.percent(3) && players.len() > 1 {
            let dead = players.remove(random.below(players.len() as u64) as usize);
            let run = Run(dead.run);
            drop(dead);
            if random.percent(50) {
                stage.cluster.gone(run);
            }
            let newcomer = stage.worker(next_run);
            players.push(Player { fake: newcomer, run: next_run, taken: Vec::new(), wrote: VecDeque::new() });
            next_run += 1;
            players.last_mut().unwrap().fake.listen(0).await;
        }
        tokio::time::sleep(Duration::from_micros(random.below(300))).await;
    }
    assert!(deaths > 20 && clients.len() == 120, "{deaths} deaths, {} clients", clients.len());
    for client in clients {
        let got = served(client, &mut players, &mut random).await;
        assert_eq!(got, b"x", "seed {seed}: each client is served once");
    }
}

/// All bytes that the client reads until its connection is closed.
async fn served(client: TcpStream, players: &mut [Player], random: &mut Random) -> Vec<u8> {
    use std::io::Read;
    let mut client = client;
    client.set_nonblocking(true).unwrap();
    let mut got = Vec::new();
    loop {
        match client.read_to_end(&mut got) {
            Ok(_) => return got,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
        players.iter_mut().for_each(|player| player.act(random, 100));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn every_client_is_served_once_though_god_dies_at_random_moments() {
    for seed in 1..=6 {
        play(scenario(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed)));
    }
}
