//! Workers, clients and a God who dies again and again at moments chosen by chance: each client is served exactly once.
//!
//! Between two awaits a death leaves nothing half done, so what may be half done then is made up: a connection accepted
//! and not written down, one written down as handed over and not sent, lines acted upon and not taken away.

use std::collections::VecDeque;

use super::*;

/// Numbers by chance, the same each time for a seed.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    pub(crate) fn happens(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A worker that answers, late or not at all, and serves what it takes with one byte.
struct Player {
    fake: Fake,
    run: u64,
    /// Taken and not served yet.
    taken: Vec<OwnedFd>,
    /// What it last wrote, line by line.
    wrote: VecDeque<Value>,
}

impl Player {
    async fn join(stage: &Stage, run: u64) -> Player {
        let mut player = Player { fake: stage.worker(run), run, taken: Vec::new(), wrote: VecDeque::new() };
        player.fake.listen(0).await;
        player
    }

    fn say(&mut self, line: Value) {
        self.fake.say(&line);
        self.wrote.push_back(line);
        if self.wrote.len() > 5 {
            self.wrote.pop_front();
        }
    }

    /// Reads up to so many lines that are there, and acts on them as Node does: all are acknowledged first.
    fn act(&mut self, chance: &mut Chance, lines: u64) {
        let mut read = Vec::new();
        for _ in 0..lines {
            self.fake.receive_now();
            let Some(line) = self.fake.take_line() else { break };
            if line["cmd"] == "NODE_HANDLE" {
                let file = self.fake.files.borrow_mut().pop_front().expect("each comes with its file");
                self.say(json!({"cmd": "NODE_HANDLE_ACK"}));
                read.push((line, file));
            }
        }
        for (line, file) in read {
            let accepted = line["msg"]["key"] == self.fake.key && !chance.happens(10);
            self.say(json!({"cmd": "NODE_CLUSTER", "ack": line["msg"]["seq"], "accepted": accepted, "seq": 1}));
            if accepted {
                self.taken.push(file);
            }
        }
        for socket in self.taken.drain(..) {
            let mut socket = TcpStream::from(socket);
            std::io::Write::write_all(&mut socket, b"x").unwrap();
        }
    }

    /// The God before us acted on the last of what we wrote, and did not take it away.
    fn say_again(&mut self, chance: &mut Chance) {
        if fdpass::unread(self.fake.socket.get_ref()).unwrap() == 0 {
            let count = chance.below(self.wrote.len() as u64 + 1) as usize;
            for line in self.wrote.iter().skip(self.wrote.len() - count) {
                self.fake.say(line);
            }
        }
    }
}

/// What may be half done when God is killed between two awaits.
pub(crate) fn leave_half_done(remains: &mut Remains, chance: &mut Chance, seq: u64) {
    let Some(at) = remains.connections.iter().position(|(_, place)| matches!(place, Place::Waiting { .. })) else {
        return;
    };
    if chance.happens(50) {
        let (socket, _) = remains.connections.swap_remove(at);
        remains.rest.push(socket);
    } else if chance.happens(70)
        && let Place::Waiting { listener, .. } = remains.connections[at].1
    {
        let run = 1 + chance.below(6);
        remains.connections[at].1 = Place::Handed { listener, run, seq };
    }
}

async fn story(seed: u64) {
    let mut chance = Chance(seed);
    let mut stage = Stage::new();
    let mut players = Vec::new();
    for run in 1..=3 {
        players.push(Player::join(&stage, run).await);
    }
    let at = players[0].fake.at();
    let (mut clients, mut next_run, mut deaths) = (Vec::new(), 4, 0);
    for step in 0..400 {
        if clients.len() < 120 && chance.happens(40) {
            clients.push(TcpStream::connect(at).expect("never refused"));
        }
        for player in &mut players {
            let lines = chance.below(4);
            player.act(&mut chance, lines);
        }
        if chance.happens(60) {
            tokio::task::yield_now().await;
        }
        if chance.happens(12) {
            deaths += 1;
            let mut remains = stage.die().await;
            let unsent = (remains.generation << 32) + (1 << 31) + step;
            leave_half_done(&mut remains, &mut chance, unsent);
            players.iter_mut().for_each(|player| player.say_again(&mut chance));
            stage = remains.recover();
        }
        if chance.happens(3) && players.len() > 1 {
            let dead = players.remove(chance.below(players.len() as u64) as usize);
            let run = Run(dead.run);
            drop(dead);
            if chance.happens(50) {
                stage.cluster.gone(run);
            }
            let newcomer = stage.worker(next_run);
            players.push(Player { fake: newcomer, run: next_run, taken: Vec::new(), wrote: VecDeque::new() });
            next_run += 1;
            players.last_mut().unwrap().fake.listen(0).await;
        }
        tokio::time::sleep(Duration::from_micros(chance.below(300))).await;
    }
    assert!(deaths > 20 && clients.len() == 120, "{deaths} deaths, {} clients", clients.len());
    for client in clients {
        let got = served(client, &mut players, &mut chance).await;
        assert_eq!(got, b"x", "seed {seed}: each is served, and once");
    }
}

/// All the client hears.
async fn served(client: TcpStream, players: &mut [Player], chance: &mut Chance) -> Vec<u8> {
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
        players.iter_mut().for_each(|player| player.act(chance, 100));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn every_client_is_served_once_whatever_god_dies_of() {
    for seed in 1..=6 {
        play(story(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed)));
    }
}
