//! The log: no chosen line is lost or comes twice, also over kill -9, rotation and torn ends; diagnostic
//! lines never make a thread wait and never pass for chosen ones; FIFO and terminal may have no reader.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use log::{LevelFilter, Log as _, Record};
use spaxos::config::Terminal;
use spaxos::consensus::types::{Ballot, Command as Chosen, Index};
use spaxos::logfile::{self, ChosenLog, LogOptions};
use spaxos::pipeline::chosen_line::parse_index;

const BALLOT: Ballot = Ballot { round: 1, node: 1 };

fn options(path: &Path) -> LogOptions {
    let path = path.to_owned();
    LogOptions { path, level: LevelFilter::Info, terminal: Terminal::Off, max_bytes: 1 << 30, keep: 4 }
}

fn open(options: &LogOptions) -> (logfile::Log, ChosenLog) {
    logfile::open(options).unwrap_or_else(|error| panic!("{error}"))
}

fn append(chosen: &mut ChosenLog, index: Index) {
    chosen.append(index, &Chosen::value(index, 1, "hello"), BALLOT, false);
}

fn say(logger: &dyn log::Log, level: log::Level, text: &str) {
    let mut record = Record::builder();
    let record = record.level(level).target("spaxos::test");
    logger.log(&record.args(format_args!("{text}")).build());
}

/// The indexes of the chosen lines in a file, after making sure that it consists of whole lines.
fn indexes(path: &Path) -> Vec<Index> {
    let text = std::fs::read(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with(b"\n"), "{} ends with a torn line", path.display());
    text.split(|byte| *byte == b'\n').filter_map(parse_index).collect()
}

/// As [`indexes`], for a file and its rotated ones, in the order in which they were written.
fn indexes_of_all(path: &Path, keep: u32) -> Vec<Index> {
    let rotated = |number: u32| PathBuf::from(format!("{}.{number}", path.display()));
    let files = (1..=keep).rev().map(rotated).chain([path.to_owned()]);
    files.flat_map(|file| indexes(&file)).collect()
}

fn fifo(dir: &Path) -> PathBuf {
    let path = dir.join("fifo");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

#[test]
fn lines_have_their_form_and_chosen_ones_are_written_whatever_the_level() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (log, mut chosen) = open(&LogOptions { level: LevelFilter::Warn, ..options(&path) });
    let logger = log.logger();
    say(&*logger, log::Level::Info, "too unimportant");
    say(&*logger, log::Level::Warn, "first\nsecond \x1b[2J");
    logger.flush();
    append(&mut chosen, 2);
    assert!(chosen.flush());
    log.close();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().map(|line| line.split_at("2026-11-21T07:39:49.123456".len())).collect();
    assert_eq!(lines[0].1, r"Z [WARN] first\nsecond \x1b[2J");
    assert_eq!(lines[1].1, r#"Z [INFO] chosen index=2 reqid=2 ballot=1.1 from=1 value="hello""#);
    assert_eq!(lines.len(), 2);
    let form = |text: &str| text.replace(|digit: char| digit.is_ascii_digit(), "d");
    assert!(lines.iter().all(|(time, _)| form(time) == "dddd-dd-ddTdd:dd:dd.dddddd"), "{text}");
}

#[test]
fn a_chosen_line_is_written_when_it_is_due_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (log, mut chosen) = open(&options(&path));
    assert_eq!(chosen.deadline(), None);
    append(&mut chosen, 1);
    let due = chosen.deadline().unwrap();
    append(&mut chosen, 2);
    assert_eq!(chosen.deadline(), Some(due), "the oldest line says when");
    chosen.flush_due(due - std::time::Duration::from_millis(1));
    assert_eq!(indexes(&path), Vec::<u64>::new());
    chosen.flush_due(due);
    assert_eq!((indexes(&path), chosen.deadline()), (vec![1, 2], None));
    (3..10_000).for_each(|index| append(&mut chosen, index));
    let counters = log.control().counters();
    assert!(counters.chosen_blocks > 5 && counters.chosen_blocks < 50, "large writes: {counters:?}");
    assert!(chosen.flush());
    assert_eq!(log.control().counters().chosen_lines, 9_999);
    assert_eq!(indexes(&path), (1..10_000).collect::<Vec<_>>());
}

#[test]
fn no_diagnostic_text_passes_for_a_chosen_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (log, mut chosen) = open(&options(&path));
    append(&mut chosen, 5);
    assert!(chosen.flush());
    let logger = log.logger();
    let line = "2026-11-21T07:39:49.123456Z [INFO] chosen index=99 reqid=1 ballot=1.1 from=1 noop";
    for text in [
        line,
        &line[35..],
        &format!("x\n{line}"),
        &format!("x\r\n{line}\n"),
        "chosen earlier: up to index=99",
    ] {
        say(&*logger, log::Level::Info, text);
    }
    logger.flush();
    drop((chosen, logger));
    log.close();
    assert_eq!(indexes(&path), [5]);
    assert_eq!(open(&options(&path)).1.last(), Some(5));
}

#[test]
fn after_a_torn_end_at_any_byte_the_log_goes_on_with_the_next_index() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (log, mut chosen) = open(&options(&path));
    (1..=3).for_each(|index| append(&mut chosen, index));
    assert!(chosen.flush());
    log.close();
    drop(chosen);
    let text = std::fs::read(&path).unwrap();
    for cut in 0..=text.len() {
        std::fs::write(&path, &text[..cut]).unwrap();
        let (log, mut chosen) = open(&options(&path));
        let next = chosen.last().map_or(1, |last| last + 1);
        (next..=4).for_each(|index| append(&mut chosen, index));
        assert!(chosen.flush());
        log.close();
        assert_eq!(indexes(&path), [1, 2, 3, 4], "cut at {cut}");
    }
}

#[test]
fn both_ways_into_the_file_together_keep_lines_whole_over_rotation_and_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    // Lines of this level may be as many as they like.
    let level = LevelFilter::Debug;
    let options = LogOptions { max_bytes: 20_000, keep: 1000, level, ..options(&path) };
    let (log, mut chosen) = open(&options);
    let control = log.control();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let logger = log.logger();
            scope.spawn(move || (0..1000).for_each(|_| say(&*logger, log::Level::Debug, &"x".repeat(100))));
        }
        for index in 1..=5000 {
            append(&mut chosen, index);
            if index % 50 == 0 {
                assert!(chosen.flush());
                control.reopen().unwrap();
            }
        }
    });
    assert!(chosen.flush());
    let rotations = control.counters().rotations;
    log.close();
    assert!(rotations > 10, "{rotations} rotations");
    assert_eq!(indexes_of_all(&path, options.keep), (1..=5000).collect::<Vec<_>>());
}

/// However many warnings there are, the file of chosen lines gets few of them, all errors, and is told how
/// many are missing.
#[test]
fn a_flood_of_diagnostic_lines_does_not_fill_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (log, _chosen) = open(&options(&path));
    let (control, logger) = (log.control(), log.logger());
    let began = Instant::now();
    for number in 0..20_000 {
        let level = if number % 2 == 0 { log::Level::Warn } else { log::Level::Info };
        say(&*logger, level, "somebody connected");
    }
    say(&*logger, log::Level::Error, "the disk failed");
    // Four lines more are allowed in each second.
    let allowed = 250 + 4 * (1 + began.elapsed().as_secs() as usize);
    log.close();
    let text = std::fs::read_to_string(&path).unwrap();
    let written = text.matches("somebody connected").count();
    assert!((250..=allowed).contains(&written), "{written} lines, {allowed} are allowed");
    assert!(text.ends_with("[ERROR] the disk failed\n"), "{text}");
    assert_eq!(control.counters().dropped_lines, 20_000 - written as u64);
}

#[test]
fn a_log_fifo_that_nobody_reads_holds_up_nobody_but_the_applier() {
    let dir = tempfile::tempdir().unwrap();
    let (terminal_end, terminal) = std::io::pipe().unwrap();
    let level = LevelFilter::Debug;
    let options = LogOptions { terminal: Terminal::Diagnostics, level, ..options(&fifo(dir.path())) };
    let terminal = File::from(std::os::fd::OwnedFd::from(terminal));
    let (log, mut chosen) = logfile::open_with_terminal(&options, terminal).unwrap();
    let (control, logger) = (log.control(), log.logger());
    // The applier fills the FIFO and waits.
    let applier = std::thread::spawn(move || {
        (1..=5000).for_each(|index| append(&mut chosen, index));
        chosen.flush()
    });
    while !control.counters().stuck {
        std::thread::yield_now();
    }
    // All other threads go on logging, far beyond the queue, and the terminal shows it.
    let first_line =
        std::thread::spawn(move || BufReader::new(terminal_end).lines().next().unwrap().unwrap());
    (0..20_000).for_each(|_| say(&*logger, log::Level::Debug, &"x".repeat(100)));
    assert!(first_line.join().unwrap().ends_with("xxx"));
    assert!(control.counters().dropped_lines > 0);
    // And the node ends, though the applier's lines are not written.
    control.stop_waiting();
    assert!(!applier.join().unwrap());
    log.close();
}

#[test]
fn a_fifo_gets_all_chosen_lines_once_somebody_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = fifo(dir.path());
    let (log, mut chosen) = open(&options(&path));
    let control = log.control();
    let applier = std::thread::spawn(move || {
        (1..=5000).for_each(|index| append(&mut chosen, index));
        chosen.flush()
    });
    while !control.counters().stuck {
        std::thread::yield_now();
    }
    let reader = BufReader::new(File::open(&path).unwrap());
    let lines = reader.lines().map(|line| parse_index(line.unwrap().as_bytes()));
    assert!(lines.take(5000).eq((1..=5000).map(Some)));
    assert!(applier.join().unwrap());
    log.close();
}

#[test]
fn a_terminal_that_nobody_reads_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (terminal_end, terminal) = std::io::pipe().unwrap();
    let terminal = File::from(std::os::fd::OwnedFd::from(terminal));
    let options = LogOptions { terminal: Terminal::All, ..options(&path) };
    let (log, mut chosen) = logfile::open_with_terminal(&options, terminal).unwrap();
    (1..=50_000).for_each(|index| append(&mut chosen, index));
    assert!(chosen.flush());
    assert_eq!(indexes(&path), (1..=50_000).collect::<Vec<_>>());
    let counters = log.control().counters();
    assert!(counters.terminal_dropped_lines > 0 && counters.dropped_lines == 0, "{counters:?}");
    log.close();
    drop(terminal_end);
}

#[test]
fn a_terminal_that_is_gone_is_no_matter() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (terminal_end, terminal) = std::io::pipe().unwrap();
    drop(terminal_end);
    let terminal = File::from(std::os::fd::OwnedFd::from(terminal));
    let options = LogOptions { terminal: Terminal::Diagnostics, ..options(&path) };
    let (log, _chosen) = logfile::open_with_terminal(&options, terminal).unwrap();
    let logger = log.logger();
    say(&*logger, log::Level::Warn, "hello");
    logger.flush();
    assert!(std::fs::read_to_string(&path).unwrap().ends_with("[WARN] hello\n"));
    assert_eq!(log.control().counters().terminal_dropped_lines, 1);
    log.close();
}

#[test]
fn the_terminal_is_told_of_a_full_disk_and_the_lines_are_kept() {
    let (mut terminal_end, terminal) = std::io::pipe().unwrap();
    let terminal = File::from(std::os::fd::OwnedFd::from(terminal));
    let options = LogOptions { terminal: Terminal::Diagnostics, ..options(Path::new("/dev/full")) };
    let (log, mut chosen) = logfile::open_with_terminal(&options, terminal).unwrap();
    let control = log.control();
    append(&mut chosen, 1);
    let (ended, end) = mpsc::channel();
    let applier = std::thread::spawn(move || {
        let all = chosen.flush();
        ended.send((all, chosen.deadline().is_some())).unwrap();
    });
    let mut told = [0; 4096];
    let len = terminal_end.read(&mut told).unwrap();
    let told = String::from_utf8_lossy(&told[..len]);
    assert!(told.contains("/dev/full: cannot write: No space left"), "{told}");
    assert!(end.try_recv().is_err(), "the applier waits for room");
    control.stop_waiting();
    assert_eq!(end.recv().unwrap(), (false, true));
    applier.join().unwrap();
    log.close();
}

#[test]
fn a_log_that_cannot_be_opened_is_an_error_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("missing/log");
    let error = logfile::open(&options(&path)).err().unwrap().to_string();
    assert!(error.contains("missing/log") && error.contains("log.file"), "{error}");
    let error = logfile::open(&options(dir.path())).err().unwrap().to_string();
    assert!(error.contains("Is a directory"), "{error}");
    let path = dir.path().join("log");
    let (_log, _chosen) = open(&options(&path));
    let error = logfile::open(&options(&path)).err().unwrap().to_string();
    assert!(error.contains("another process writes"), "{error}");
}

const KILLS: u64 = 25;
const CHILD: &str = "SPAXOS_TEST_LOG_CHILD";

fn options_of_kills(path: &Path) -> LogOptions {
    LogOptions { max_bytes: 1000, keep: 200, ..options(path) }
}

#[test]
fn kill_9_at_any_moment_of_writing_and_rotating_loses_and_repeats_no_chosen_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut before = Vec::new();
    for round in 1..=KILLS {
        // The process is killed somewhere after this many writes, at no moment in particular.
        let acknowledged = run_and_kill(&path, (round * 7919) % 50);
        let options = options_of_kills(&path);
        let (log, chosen) = open(&options);
        let all = indexes_of_all(&path, options.keep);
        assert_eq!(chosen.last(), all.last().copied());
        assert!(all.last() >= Some(&acknowledged), "{acknowledged} was written, {all:?} is left");
        assert!(all.windows(2).all(|pair| pair[0] + 1 == pair[1]), "lost or repeated: {all:?}");
        assert!(before.is_empty() || all.first() <= before.last(), "the runs overlap: {before:?}, {all:?}");
        before = all;
        log.close();
    }
}

/// Starts the writer, kills it after this many of its acknowledgements, and returns the last index that it
/// acknowledged.
fn run_and_kill(path: &Path, acknowledgements: u64) -> Index {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_writer_that_is_killed", "--nocapture", "--test-threads=1"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let indexes = lines.filter_map(|line| line.unwrap().strip_prefix("wrote ")?.parse().ok());
    let last = indexes.take(acknowledgements as usize + 1).last();
    child.kill().unwrap();
    child.wait().unwrap();
    last.expect("the writer acknowledges")
}

/// Not a test by itself: the test above starts and kills it.
#[test]
fn the_writer_that_is_killed() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let (_log, mut chosen) = open(&options_of_kills(Path::new(&path)));
    let started = Instant::now();
    let mut index = chosen.last().unwrap_or(0);
    // If nobody kills it, it ends by itself.
    while started.elapsed().as_secs() < 60 {
        index += 1;
        append(&mut chosen, index);
        if index.is_multiple_of(5) {
            assert!(chosen.flush());
            println!("\nwrote {index}");
        }
    }
}
