//! Damage to every bit and byte: it is refused, or an unacknowledged tail is cut. No record is ever changed or skipped.

use super::support::*;
use crate::journal::{
    Device, Finding, MemoryDevice, RecoveryError,
    frame::{self, FRAME_HEADER_BYTES, FrameHeader},
    identity::META_FILE,
    read_identity,
    segment::{SEGMENT_HEADER_BYTES, file_name},
};

/// The image must be refused, or hold the first records of a counting log, at least `kept_min` of them.
fn refused_or_prefix(image: &dyn Device, kept_min: u64, proven_durable: u64, what: &str) -> bool {
    match read(image, proven_durable) {
        Err(RecoveryError::Corrupt { .. }) => true,
        Err(error) => panic!("{what}: {error}"),
        Ok((found, survey)) => {
            assert!(
                survey.last_sequence >= kept_min,
                "{what}: {} kept of {kept_min}: {survey:?}",
                survey.last_sequence
            );
            assert!((1..).zip(&found).all(|(n, record)| *record == numbered(n)), "{what}: a changed record");
            false
        }
    }
}

/// Start of each frame of the last segment, and the end of the last one.
fn frame_offsets(image: &MemoryDevice, name: &str) -> Vec<usize> {
    let bytes = image.bytes(name).unwrap();
    let mut offsets = vec![SEGMENT_HEADER_BYTES];
    loop {
        let at = *offsets.last().unwrap();
        match bytes.get(at..).and_then(|rest| rest.first_chunk::<FRAME_HEADER_BYTES>()).map(FrameHeader::decode) {
            Some(Ok(Some(header))) => offsets.push(at + header.frame_bytes()),
            _ => return offsets,
        }
    }
}

fn flip_every_bit(image: &MemoryDevice, kept_min: u64) -> (usize, usize) {
    let (mut refused, mut cut) = (0, 0);
    for name in image.list().unwrap() {
        for bit in 0..image.bytes(&name).unwrap().len() * 8 {
            let flip = |bytes: &mut Vec<u8>| bytes[bit / 8] ^= 1 << (bit % 8);
            image.damage(&name, flip);
            if refused_or_prefix(image, kept_min, 0, &format!("{name} bit {bit}")) {
                refused += 1
            } else {
                cut += 1
            }
            image.damage(&name, flip);
        }
    }
    (refused, cut)
}

#[test]
fn every_flipped_bit_after_a_crash() {
    // Only the last frame is unproven: nothing was written after it was synced.
    let (image, last) = counting_log(3);
    let (refused, cut) = flip_every_bit(&image, last - 1);
    assert!(refused > 0 && cut > 0);
}

#[test]
fn every_flipped_bit_after_a_clean_end() {
    let (image, last) = counting_log(3);
    restart(&image);
    flip_every_bit(&image, last);
}

#[test]
fn truncated_and_zero_filled_at_every_byte_of_the_last_three_frames() {
    let (original, last) = counting_log(2);
    let name = file_name(2);
    let offsets = frame_offsets(&original, &name);
    for at in offsets[offsets.len() - 4]..=*offsets.last().unwrap() {
        let lost = offsets.iter().filter(|end| **end > at).count() as u64;
        for zero_filled in [false, true] {
            let what = format!("at {at}, zero-filled {zero_filled}");
            let image = original.killed();
            image.damage(&name, |bytes| {
                let whole = bytes.len();
                bytes.truncate(at);
                bytes.resize(if zero_filled { whole } else { at }, 0);
            });
            let refused = refused_or_prefix(&image, last - lost, 0, &what);
            assert!(!refused, "{what}: nothing proves that more was durable");
            refused_or_prefix(&image, last, last, &what);
            let (journal, recovered) = open(image.clone());
            let next = recovered.last_sequence + 1;
            append_numbered(&journal.handle(), next, next + 3);
            drop(journal);
            assert!(!refused_or_prefix(&image, next + 3, next + 3, &what));
        }
    }
}

#[test]
fn what_is_cut_is_kept_and_its_place_is_clean() {
    let (image, last) = counting_log(2);
    let name = file_name(2);
    let offsets = frame_offsets(&image, &name);
    let (start, end) = (offsets[offsets.len() - 2], offsets[offsets.len() - 1]);
    image.damage(&name, |bytes| bytes[start + 60] ^= 1);
    let damaged = image.bytes(&name).unwrap();
    let cut = restart(&image).cut.unwrap();
    assert_eq!((cut.offset, cut.last_sequence, &*cut.file), (start as u64, last - 1, &*name));
    let saved = image.bytes(&cut.saved_as.unwrap()).unwrap();
    assert!(damaged[start..end].starts_with(&saved) && damaged[start + saved.len()..end].iter().all(|byte| *byte == 0));
    assert!(image.crash(None).bytes(&name).unwrap()[start..].iter().all(|byte| *byte == 0));
    assert_eq!(restart(&image).findings, []);
}

/// Changes an image and returns whether it can still be opened.
fn verdict(image: &MemoryDevice, change: impl FnOnce(&MemoryDevice)) -> Result<Vec<Finding>, String> {
    let image = image.killed();
    change(&image);
    read(&image, 0).map(|(_, survey)| survey.findings).map_err(|error| error.to_string())
}

fn refuses(image: &MemoryDevice, says: &str, change: impl FnOnce(&MemoryDevice)) {
    let said = verdict(image, change).expect_err(says);
    assert!(said.contains(says), "expected «{says}» in: {said}");
    assert!(said.contains("Nothing was changed") && !said.contains('\n'), "one readable paragraph: {said}");
}

#[test]
fn files_that_are_missing_or_foreign_are_refused() {
    let (image, _) = counting_log(4);
    let (other, _) = counting_log(4);
    refuses(&image, "00000000000000000002.seg, byte 0: the segment is missing", |image| {
        image.remove(&file_name(2)).unwrap();
    });
    refuses(&image, "the file is missing, yet there are segments", |image| image.remove(META_FILE).unwrap());
    refuses(&image, "all its segments are missing", |image| {
        (1..=4).for_each(|index| image.remove(&file_name(index)).unwrap());
    });
    refuses(&image, "belongs to another journal", |image| {
        image.insert(&file_name(3), other.bytes(&file_name(3)).unwrap());
    });
    refuses(&image, "was renamed", |image| image.insert(&file_name(2), image.bytes(&file_name(3)).unwrap()));
    refuses(&image, "longer than its segment", |image| image.damage(&file_name(2), |bytes| bytes.push(0)));
    refuses(&image, "does not continue the one before", |image| {
        let end = *frame_offsets(image, &file_name(2)).iter().nth_back(1).unwrap();
        image.damage(&file_name(2), |bytes| bytes[end..].fill(0));
    });
    refuses(&image, "00000000000000000002.seg, byte 5", |image| {
        image.damage(&file_name(2), |bytes| *bytes.last_mut().unwrap() = 1);
    });
    // The oldest segment may be missing: it could have been deleted. A cursor that needs it gets an error.
    assert_eq!(verdict(&image, |image| image.remove(&file_name(1)).unwrap()), Ok(vec![]));
}

#[test]
fn a_last_segment_that_is_lost_is_noticed_by_its_watermark() {
    let (image, last) = counting_log(2);
    image.remove(&file_name(2)).unwrap();
    assert!(read(&image, 0).is_ok());
    let said = read(&image, last).unwrap_err().to_string();
    assert!(said.contains(&format!("but record {last} was durable")), "{said}");
    assert!(matches!(read(&MemoryDevice::new(), 1), Err(RecoveryError::Corrupt { .. })), "nothing at all");
}

#[test]
fn a_journal_meta_from_before_is_refused() {
    let (image, _) = counting_log(1);
    let old = image.bytes(META_FILE).unwrap();
    restart(&image);
    let (journal, recovered) = open(image.clone());
    append_numbered(&journal.handle(), recovered.last_sequence + 1, recovered.last_sequence + 1);
    drop(journal);
    refuses(&image, "a later epoch than journal.meta", |image| image.insert(META_FILE, old));
}

#[test]
fn leftovers_of_a_crash_are_cleaned_up() {
    let (image, last) = counting_log(2);
    let temporary = format!("{}.tmp", file_name(3));
    image.insert(&temporary, vec![7; 100]);
    image.insert("journal.meta.tmp", vec![7; 10]);
    image.insert("README", vec![1]);
    image.insert(&file_name(3), vec![0; SEGMENT_HEADER_BYTES + 1024]);
    let half = image.bytes(&file_name(2)).unwrap()[..50].to_vec();
    image.damage(&file_name(3), |bytes| bytes[..50].copy_from_slice(&half));
    let recovered = restart(&image);
    assert_eq!((recovered.last_sequence, recovered.segments, recovered.findings.len()), (last, 2, 3));
    assert!(recovered.findings.contains(&Finding::UnfinishedSegment { file: file_name(3) }));
    let names = image.list().unwrap();
    assert!(!names.iter().any(|name| name.ends_with(".tmp")), "{names:?}");
    assert!(names.iter().any(|name| name.starts_with(&file_name(3)) && name.ends_with(".broken")), "{names:?}");
    let (journal, _) = open(image.clone());
    append_numbered(&journal.handle(), last + 1, last + 40);
    drop(journal);
    assert_eq!(read(&image, last + 40).unwrap().0.len() as u64, last + 40);
}

#[test]
fn a_segment_behind_an_unfinished_one_was_synced_and_is_never_cut() {
    let (image, _) = counting_log(2);
    let end = *frame_offsets(&image, &file_name(2)).last().unwrap();
    image.insert(&file_name(3), vec![0; SEGMENT_HEADER_BYTES + 1024]);
    refuses(&image, "bytes after the end of the log", |image| image.damage(&file_name(2), |bytes| bytes[end + 50] = 1));
    refuses(&image, "not a segment header", |image| image.damage(&file_name(3), |bytes| bytes[5000] = 1));
}

#[test]
fn the_first_segment_is_made_again_when_it_never_held_anything() {
    let device = MemoryDevice::new();
    drop(open(device.clone()));
    let id = read_identity(&device).unwrap().unwrap().journal_id;
    device.damage(&file_name(1), |bytes| bytes.fill(0));
    let recovered = restart(&device);
    assert_eq!((recovered.journal_id, recovered.last_sequence, recovered.segments), (id, 0, 1));
    assert_eq!(restart(&device).findings, []);
}

#[test]
fn a_whole_frame_of_another_place_is_refused() {
    let (image, last) = counting_log(1);
    let name = file_name(1);
    let bytes = image.bytes(&name).unwrap();
    let offsets = frame_offsets(&image, &name);
    let end = *offsets.last().unwrap();
    // A copy of the first frame at the next frame's offset.
    refuses(&image, "does not continue the frame before it", |image| {
        image.damage(&name, |changed| {
            changed[end..end + offsets[1] - offsets[0]].copy_from_slice(&bytes[offsets[0]..offsets[1]])
        });
    });
    // A frame with the right chain and sequence, of an earlier epoch.
    let (seed, header) = {
        let id = read_identity(&image).unwrap().unwrap().journal_id;
        (
            frame::seed(id),
            FrameHeader::decode(bytes[offsets[offsets.len() - 2]..].first_chunk().unwrap()).unwrap().unwrap(),
        )
    };
    let crc = u32::from_le_bytes(bytes[offsets[offsets.len() - 2] + 4..][..4].try_into().unwrap());
    let next = FrameHeader { prev_crc: crc, epoch: 0, first_sequence: last + 1, last_durable: last, ..header };
    let payload = frame::payload(&header, &bytes[offsets[offsets.len() - 2]..end]);
    let (stale, _) = frame::encode(seed, &next, std::iter::once(payload));
    refuses(&image, "earlier epoch", |image| {
        image.damage(&name, |changed| changed[end..end + stale.len()].copy_from_slice(&stale));
    });
}
