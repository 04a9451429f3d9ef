use std::time::Duration;

use super::*;

fn tunnel(id: u64, peer: &str, bytes: u64) -> Tunnel {
    Tunnel { id, peer: peer.to_owned().into(), bytes_up: bytes, bytes_down: 10 * bytes, ..Tunnel::default() }
}

fn snapshot(tunnels: Vec<Tunnel>) -> Snapshot {
    Snapshot { tunnels, ..Snapshot::default() }
}

#[expect(clippy::disallowed_methods, reason = "some time")]
fn start() -> Instant {
    Instant::now()
}

fn press(model: &mut Model, codes: impl IntoIterator<Item = KeyCode>) -> Action {
    let actions: Vec<Action> = codes.into_iter().map(|code| model.key(code.into())).collect();
    actions.last().copied().unwrap_or(Action::None)
}

fn peers(model: &Model) -> Vec<String> {
    model.rows().iter().map(|row| shown(&row.cells[0])).collect()
}

fn shown(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => text.clone(),
        other => other.number().unwrap_or_default().to_string(),
    }
}

fn model() -> Model {
    let mut model = Model::default();
    model.update(snapshot(vec![tunnel(1, "b", 10), tunnel(2, "a", 30), tunnel(3, "c", 20)]), start());
    model
}

#[test]
fn rows_are_sorted_by_the_chosen_column() {
    let mut model = model();
    assert_eq!(peers(&model), ["a", "b", "c"]);
    press(&mut model, [KeyCode::Char('r')]);
    assert_eq!(peers(&model), ["c", "b", "a"]);
    // SENT is the sixth column; the largest comes first.
    press(&mut model, [KeyCode::Right; 5]);
    assert_eq!(peers(&model), ["a", "c", "b"]);
    press(&mut model, [KeyCode::Left; 5]);
    assert_eq!(peers(&model), ["a", "b", "c"]);
}

#[test]
fn the_cursor_stays_on_its_tunnel() {
    let mut model = model();
    press(&mut model, [KeyCode::Down, KeyCode::Down]);
    assert_eq!(model.selected, Some(3));
    press(&mut model, [KeyCode::Char('r')]);
    assert_eq!((model.selected, model.table.selected()), (Some(3), Some(0)));
    model.update(snapshot(vec![tunnel(1, "b", 10), tunnel(3, "c", 20), tunnel(4, "d", 1)]), start());
    assert_eq!((model.selected, model.table.selected()), (Some(3), Some(1)));
    // It has ended: the cursor stays where it is.
    model.update(snapshot(vec![tunnel(1, "b", 10)]), start());
    assert_eq!((model.selected, model.table.selected()), (Some(1), Some(0)));
    model.update(snapshot(vec![]), start());
    assert_eq!((model.selected, model.table.selected()), (None, None));
    press(&mut model, [KeyCode::Down, KeyCode::Up, KeyCode::End, KeyCode::PageDown]);
    assert_eq!(model.table.selected(), None);
}

#[test]
fn a_filter_applies_while_it_is_typed() {
    let mut model = model();
    press(&mut model, "/C".chars().map(KeyCode::Char));
    assert_eq!(peers(&model), ["c"]);
    // Keys are letters there.
    assert_eq!(press(&mut model, [KeyCode::Char('q')]), Action::None);
    assert_eq!(peers(&model), [""; 0]);
    press(&mut model, [KeyCode::Backspace, KeyCode::Enter]);
    assert_eq!(peers(&model), ["c"]);
    press(&mut model, [KeyCode::Esc]);
    assert_eq!(peers(&model).len(), 3);
    press(&mut model, [KeyCode::Char('/')].into_iter().chain([KeyCode::Char('x'); 200]));
    assert_eq!(model.filter.len(), 100);
}

#[test]
fn a_tunnel_is_ended_only_after_a_question() {
    let mut model = model();
    assert_eq!(press(&mut model, [KeyCode::Char('k'), KeyCode::Enter]), Action::None);
    assert_eq!(press(&mut model, [KeyCode::Char('y')]), Action::None, "there is no question any more");
    assert_eq!(press(&mut model, [KeyCode::Char('k')]), Action::None);
    assert!(model.bottom().0.contains("end tunnel 2"), "{:?}", model.bottom());
    assert_eq!(press(&mut model, [KeyCode::Char('y')]), Action::Kill(2));
    press(&mut model, [KeyCode::Tab]);
    assert_eq!(press(&mut model, [KeyCode::Char('k'), KeyCode::Char('y')]), Action::None);
}

#[test]
fn quitting() {
    assert_eq!(press(&mut model(), [KeyCode::Char('q')]), Action::Quit);
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    let mut model = model();
    press(&mut model, [KeyCode::Char('/')]);
    assert_eq!(model.key(control_c), Action::Quit);
}

#[test]
fn rates_are_bytes_a_second_between_two_snapshots() {
    let mut model = Model::default();
    let first = start();
    model.update(snapshot(vec![tunnel(1, "a", 1000)]), first);
    assert_eq!(model.rows()[0].cells[3], Cell::Rate(0));
    model.update(snapshot(vec![tunnel(1, "a", 3000)]), first + Duration::from_millis(500));
    assert_eq!(model.rows()[0].cells[3..5], [Cell::Rate(4000), Cell::Rate(40_000)]);
    // A tunnel that is new under an old id, or a clock that has not moved.
    model.update(snapshot(vec![tunnel(1, "a", 5)]), first + Duration::from_millis(900));
    assert_eq!(model.rows()[0].cells[3], Cell::Rate(0));
    model.update(snapshot(vec![tunnel(1, "a", 50)]), first + Duration::from_millis(900));
    assert_eq!(model.rows()[0].cells[3], Cell::Rate(0));
}

#[test]
fn a_gateway_that_does_not_answer_is_told_until_it_does() {
    let mut model = model();
    model.lost(&"no answer");
    press(&mut model, [KeyCode::Down]);
    assert_eq!(model.bottom(), ("what is shown is old: no answer".into(), true));
    assert_eq!(model.rows().len(), 3);
    model.update(snapshot(vec![]), start());
    assert!(!model.bottom().1);
}

#[test]
fn routes_show_their_targets() {
    let json = r#"{"name":"web","path":"/api","state":"live","targets":[
        {"title":"one","node":"n1","address":"10.0.0.2:80","state":"live","requests":2,"tunnels":1},
        {"title":"two","address":null,"state":"starting","requests":3,"tunnels":0}]}"#;
    let row = route(&serde_json::from_str(json).unwrap());
    let cells: Vec<String> = row.cells.iter().map(shown).collect();
    assert_eq!(cells, ["web/api", "live", "one@n1 10.0.0.2:80, two  (starting)", "5", "1"]);
}
