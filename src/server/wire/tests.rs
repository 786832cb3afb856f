use tokio::time::advance;

use super::*;

const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

fn frame(kind: u8, stream: u32, payload: usize) -> Vec<u8> {
    let length = u32::try_from(payload).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, 0]);
    frame.extend(stream.to_be_bytes());
    frame.resize(FRAME_HEADER + payload, 0);
    frame
}

fn begun() -> Frames {
    let mut frames = Frames::new();
    frames.pass(&[0; PREFACE]).unwrap();
    assert!(!frames.have_begun);
    frames
}

#[tokio::test(start_paused = true)]
async fn frames_are_found_however_they_are_cut() {
    let mut bytes = vec![0; PREFACE];
    for (kind, payload) in [(4, 18), (HEADERS, 300), (CONTINUATION, 0), (DATA, 70_000)] {
        bytes.extend(frame(kind, 1, payload));
    }
    let pings = 7;
    bytes.extend(frame(PING, 0, 8).repeat(pings));
    for cut in [1, 2, 7, 9, 1000, bytes.len()] {
        let mut frames = Frames::new();
        for piece in bytes.chunks(cut) {
            frames.pass(piece).unwrap();
        }
        assert_eq!((frames.rest, frames.have), (0, 0), "{cut}");
        assert_eq!(frames.credit as usize, BURST as usize - pings, "{cut}");
    }
}

#[tokio::test(start_paused = true)]
async fn pings_are_a_flood_and_calls_are_not() {
    let mut frames = begun();
    let sent = (0..5000).take_while(|_| frames.pass(&frame(PING, 0, 8)).is_ok());
    assert_eq!(sent.count(), BURST as usize);

    // A call with its window updates and an answer to a ping, for ever.
    let mut frames = begun();
    for stream in 0..50_000 {
        frames.pass(&frame(HEADERS, stream, 100)).unwrap();
        frames.pass(&frame(DATA, stream, 100)).unwrap();
        frames.pass(&frame(WINDOW_UPDATE, 0, 4)).unwrap();
        frames.pass(&frame(WINDOW_UPDATE, stream, 4)).unwrap();
        frames.pass(&frame(PING, 0, 8)).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn slow_pings_are_fine() {
    let mut frames = begun();
    for _ in 0..20_000 {
        advance(RESPITE).await;
        frames.pass(&frame(PING, 0, 8)).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn resets_alone_are_a_flood_and_some_among_calls_are_not() {
    let mut frames = begun();
    let rapid = (1..5000).take_while(|&stream| {
        frames.pass(&frame(HEADERS, stream, 100)).is_ok()
            && frames.pass(&frame(RST_STREAM, stream, 4)).is_ok()
    });
    assert!(rapid.count() < 1100);

    let mut frames = begun();
    for stream in 1..50_000 {
        frames.pass(&frame(HEADERS, stream, 100)).unwrap();
        if stream % 2 == 0 {
            frames.pass(&frame(RST_STREAM, stream, 4)).unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_reserved_bit_hides_no_resets() {
    let mut frames = begun();
    let reserved = 1 << 31;
    for stream in [1, 3] {
        frames
            .pass(&frame(HEADERS, stream | reserved, 100))
            .unwrap();
        advance(HASTY * 2).await;
    }
    let rapid = (5..5000).take_while(|&stream| {
        frames.pass(&frame(HEADERS, stream | reserved, 100)).is_ok()
            && frames.pass(&frame(RST_STREAM, stream, 4)).is_ok()
    });
    assert!(rapid.count() < 1100);
}

#[tokio::test(start_paused = true)]
async fn calls_that_all_time_out_are_no_flood() {
    let mut frames = begun();
    for first in (1..100_000).step_by(200) {
        for stream in first..first + 200 {
            frames.pass(&frame(HEADERS, stream, 100)).unwrap();
        }
        advance(HASTY * 2).await;
        for stream in first..first + 200 {
            frames.pass(&frame(RST_STREAM, stream, 4)).unwrap();
        }
    }
}
