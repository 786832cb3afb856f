//! A disk that is full.

use super::*;

#[tokio::test]
async fn a_store_that_ran_full_works_again_once_there_is_room() {
    let place = places().remove(0);
    let ledger = place.open();
    ledger.open().await.unwrap();
    let pool = &ledger.0.store.pool;
    let no_room = query("PRAGMA max_page_count = 1");
    no_room.execute(pool).await.unwrap();
    let (now, progress) = (Instant::now(), Progress::default());
    let mut full = false;
    for _ in 0..1000 {
        let id = fresh();
        let write = create(&id, CALL);
        match ledger.begin(&write, None, &progress, (now, now)).await {
            Ok(Begun::Reserved(reservation)) => reservation.unknown().await,
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                full = true;
                assert!(error.to_string().contains("full"), "{error}");
                break;
            }
        }
    }
    assert!(full);
    let room = query("PRAGMA max_page_count = 1000000");
    room.execute(pool).await.unwrap();
    let id = fresh();
    reserved(begin(&ledger, &create(&id, CALL)).await)
        .free()
        .await;
}
