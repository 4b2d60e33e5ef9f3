use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

fn drop_id() -> DropId {
    DropId(Uuid::from_u128(0x0199_5b4d_2c00_7abc_8def_0123_4567_89ab))
}

/// An id as earlier versions made them: a counter of 42 bits in each millisecond.
fn old(ms: u64, counter: u64) -> OrderId {
    let counter = u128::from(counter);
    let bits = u128::from(ms) << 80 | 7 << 76 | counter >> 30 << 64 | VARIANT | (counter & ((1 << 30) - 1)) << 32;
    OrderId(Uuid::from_u128(bits | u128::from(drop_id().tag())))
}

fn typed(text: &str) -> Result<OrderNumber, Mistyped> {
    text.parse()
}

proptest! {
    #[test]
    fn a_number_leads_back_to_its_id(position in 0..1_u64 << SHORT.bits, random in 0..1_u32 << 18) {
        let id = OrderId::at(position, random, drop_id());
        prop_assert_eq!((id.position(), id.0.get_version_num(), id.drop_tag()), (Some(position), 7, drop_id().tag()));
        prop_assert_eq!(id.0.get_variant(), uuid::Variant::RFC4122);
        let number = id.number();
        prop_assert_eq!(number.text().as_str().len(), 14);
        prop_assert_eq!(number.value(), Some(position.into()), "a bijection: no two positions share a number");
        prop_assert!(number.ids().contains(&id));
        prop_assert_eq!(typed(number.text().as_str()), Ok(number));
    }

    #[test]
    fn an_old_id_has_a_longer_number_with_all_that_made_it_unique(
        ms in FIRST_MS..FIRST_MS + (1 << MS_BITS),
        counter in 0..1_u64 << OLD_BITS,
    ) {
        let id = old(ms, counter);
        // One in 65,536 has the mark by chance; its number is right, too.
        let number = id.number();
        let value = u128::from(ms - FIRST_MS) << OLD_BITS | u128::from(counter);
        prop_assert!(id.position().is_some() || number.value() == Some(value));
        prop_assert!(number.ids().contains(&id));
        prop_assert_eq!(typed(number.text().as_str()), Ok(number));
    }

    #[test]
    fn a_number_is_read_as_people_type_it(position in 0..1_u64 << SHORT.bits, gaps in prop::collection::vec(0..3_u8, 12)) {
        let number = OrderId::at(position, 0, drop_id()).number();
        let plain = number.to_string().replace('-', "").to_lowercase();
        let spaced: String = plain.chars().zip(gaps).flat_map(|(symbol, gap)| match gap {
            0 => vec![symbol],
            1 => vec![symbol, '-'],
            _ => vec![' ', symbol.to_ascii_uppercase(), ' '],
        }).collect();
        prop_assert_eq!(typed(&plain), Ok(number));
        prop_assert_eq!(typed(&spaced), Ok(number), "{}", spaced);
    }

    #[test]
    fn one_wrong_character_or_two_swapped_are_found(
        bits: u128,
        is_old: bool,
        places in (0..20_usize, 0..20_usize),
        other in 0..SYMBOLS.len(),
    ) {
        let id = if is_old { OrderId(Uuid::from_u128(bits)) } else { OrderId::at((bits as u64) >> 15, 0, drop_id()) };
        let number = id.number();
        let text = number.to_string().replace('-', "");
        let (one, two) = (places.0 % text.len(), places.1 % text.len());
        let mut wrong = text.clone().into_bytes();
        wrong[one] = SYMBOLS[other];
        let wrong = String::from_utf8(wrong).unwrap();
        prop_assert_eq!(typed(&wrong), if wrong == text { Ok(number) } else { Err(Mistyped::Check) });
        let mut swapped = text.clone().into_bytes();
        swapped.swap(one, two);
        let swapped = String::from_utf8(swapped).unwrap();
        prop_assert_eq!(typed(&swapped), if swapped == text { Ok(number) } else { Err(Mistyped::Check) });
    }

    #[test]
    fn any_text_is_read_or_refused(text: String) {
        if let Ok(number) = typed(&text) {
            prop_assert_eq!(typed(&number.to_string()), Ok(number));
        }
    }
}

#[test]
fn what_was_typed_wrong_is_named() {
    let number = OrderId::at(1, 0, drop_id()).number().to_string();
    assert_eq!(typed(&number[1..]), Err(Mistyped::Length));
    assert_eq!(typed(&format!("{number}2")), Err(Mistyped::Length));
    assert_eq!(typed(""), Err(Mistyped::Length));
    assert_eq!(typed(&" ".repeat(65)), Err(Mistyped::Length));
    assert_eq!(typed(&format!("O{}", &number[1..])), Err(Mistyped::Symbol('O')));
    assert_eq!(typed(&format!("é{}", &number[1..])), Err(Mistyped::Symbol('é')));
}

/// Numbers are printed and kept by people: they must be the same in every later version.
#[test]
fn numbers_never_change() {
    let number = |id: OrderId| id.number().to_string();
    assert_eq!(number(OrderId::at(0, 0, drop_id())), "2222-2222-2222");
    assert_eq!(number(OrderId::at(1, 0, drop_id())), GOLDEN[0]);
    assert_eq!(number(OrderId::at((190_000_000_000 << 8) | 77, 0x3_ffff, drop_id())), GOLDEN[1]);
    assert_eq!(number("01995b4d-2c00-7abc-8def-0123456789ab".parse().unwrap()), GOLDEN[2]);
}

const GOLDEN: [&str; 3] = ["9HR4-HDVM-FD23", "8P32-V4W2-VF9N", "26RT-K6WJ-V6Y2-Y97C-N88T"];

#[test]
fn neighbours_look_different() {
    let text = |position| OrderId::at(position, 0, drop_id()).number().to_string();
    for position in (190_000_000_000 << 8)..(190_000_000_000 << 8) + 1_000_u64 {
        let same = text(position).bytes().zip(text(position + 1).bytes()).filter(|(a, b)| a == b && *a != b'-').count();
        assert!(same <= 6, "{} {}", text(position), text(position + 1));
    }
}

#[test]
fn many_threads_share_no_number_and_each_sees_its_ids_rise() {
    let of_one = || (0..50_000).map(|_| OrderId::for_drop(drop_id())).collect::<Vec<_>>();
    let ids: Vec<Vec<OrderId>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(of_one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|ids| ids.is_sorted_by(|a, b| a < b)));
    let numbers: HashSet<OrderNumber> = ids.iter().flatten().map(|id| id.number()).collect();
    assert_eq!(numbers.len(), 200_000);
    assert!(ids.iter().flatten().all(|id| id.position().is_some()));
}

#[test]
fn positions_rise_whatever_the_clock_does() {
    let last = AtomicU64::new(0);
    let position = |ms: u64, count: u64| ms << COUNT_BITS | count;
    assert_eq!(next_position(&last, 5, 100), position(5, 100));
    assert_eq!(next_position(&last, 5, 3), position(5, 101), "the same millisecond goes on counting");
    assert_eq!(next_position(&last, 6, 3), position(6, 3));
    assert_eq!(next_position(&last, 2, 9), position(6, 4), "a clock that was set back");
    last.store(position(6, 255), Ordering::Relaxed);
    assert_eq!(next_position(&last, 6, 9), position(7, 0), "a full millisecond takes from the next");
    assert_eq!(next_position(&last, 7, 9), position(7, 1));
}

#[test]
fn a_start_goes_on_after_the_newest_order() {
    // Seconds ahead of the clock, as after it was set back.
    let newest = OrderId::at(OrderId::for_drop(drop_id()).position().unwrap() + (5_000 << COUNT_BITS), 0, drop_id());
    OrderId::continue_after(newest);
    OrderId::continue_after(OrderId(Uuid::nil()));
    assert!(OrderId::for_drop(drop_id()).position() > newest.position());
}
