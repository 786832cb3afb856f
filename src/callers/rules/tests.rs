use super::*;
use crate::callers::NameKind;

const METHODS: [&str; 2] = ["CreateCustomer", "UpdateCustomer"];

fn parse(text: &str) -> Result<Arc<Rules>, String> {
    let methods = METHODS.map(str::to_owned);
    Rules::parse(text.as_bytes(), &methods, Some(1000)).map(Arc::new)
}

fn name(kind: NameKind, text: &str) -> Name {
    let text = text.to_owned();
    Name { kind, text }
}

const FILE: &str = r#"
    [[caller]]
    name = "spiffe://td/ns/shop/sa/orders"
    sites = ["f37F2PPh"]
    methods = ["CreateCustomer"]
    daily_share = 0.5

    [[caller]]
    name = "sub:system:serviceaccount:shop:*"
    daily_share = 0.3

    [[caller]]
    name = "sub:system:serviceaccount:shop:billing"

    [[caller]]
    name = "*.shop.svc"
"#;

#[test]
fn a_caller_is_found_by_its_own_kind_of_name_and_the_exact_entry_goes_first() {
    let rules = parse(FILE).unwrap();
    let found = |kind, text| {
        let caller = rules.admit(&[name(kind, text)])?;
        Some(caller.label().unwrap().to_string())
    };
    let subject = "system:serviceaccount:shop:web";
    assert_eq!(
        found(NameKind::Subject, subject).unwrap(),
        "sub:system:serviceaccount:shop:*"
    );
    let billing = "system:serviceaccount:shop:billing";
    assert_eq!(
        found(NameKind::Subject, billing).unwrap(),
        format!("sub:{billing}")
    );
    assert_eq!(found(NameKind::Dns, "Web.shop.svc").unwrap(), "*.shop.svc");
    assert_eq!(found(NameKind::Subject, "web.shop.svc"), None);
    assert_eq!(
        found(NameKind::Subject, "spiffe://td/ns/shop/sa/orders"),
        None
    );
    assert_eq!(found(NameKind::Uri, subject), None);
}

#[test]
fn a_caller_may_what_its_entry_says() {
    let rules = parse(FILE).unwrap();
    let orders = rules
        .admit(&[name(NameKind::Uri, "spiffe://td/ns/shop/sa/orders")])
        .unwrap();
    assert_eq!(orders.may("CreateCustomer", "f37F2PPh"), Ok(()));
    assert_eq!(
        orders.may("UpdateCustomer", "f37F2PPh"),
        Err("spiffe://td/ns/shop/sa/orders")
    );
    assert_eq!(
        orders.may("CreateCustomer", "other"),
        Err("spiffe://td/ns/shop/sa/orders")
    );
    let web = rules.admit(&[name(NameKind::Dns, "web.shop.svc")]).unwrap();
    assert_eq!(web.may("UpdateCustomer", "other"), Ok(()));
    // Where both are demanded, both have to allow it.
    assert_eq!(web.and(&orders).may("CreateCustomer", "f37F2PPh"), Ok(()));
    assert!(web.and(&orders).may("CreateCustomer", "other").is_err());
    assert!(orders.and(&web).may("CreateCustomer", "other").is_err());
}

#[test]
fn a_day_is_divided_by_the_shares() {
    let rules = parse(FILE).unwrap();
    let calls = |kind, text| {
        let caller = rules.admit(&[name(kind, text)]).unwrap();
        caller.allotment(1000).unwrap().calls
    };
    assert_eq!(calls(NameKind::Uri, "spiffe://td/ns/shop/sa/orders"), 500);
    assert_eq!(
        calls(NameKind::Subject, "system:serviceaccount:shop:web"),
        300
    );
    assert_eq!(
        calls(NameKind::Subject, "system:serviceaccount:shop:billing"),
        200
    );
    assert_eq!(calls(NameKind::Dns, "web.shop.svc"), 200);
    // Where both are demanded, the token's share goes before the certificate's.
    let of = |kind, text| rules.admit(&[name(kind, text)]).unwrap();
    let orders = of(NameKind::Uri, "spiffe://td/ns/shop/sa/orders");
    for (subject, expected) in [
        ("system:serviceaccount:shop:web", 300),
        ("system:serviceaccount:shop:billing", 500),
    ] {
        let both = of(NameKind::Subject, subject).and(&orders);
        assert_eq!(both.allotment(1000).unwrap().calls, expected, "{subject}");
    }
    let list = Arc::new(Rules::allowing(["web"]).unwrap());
    let listed = list.admit(&[name(NameKind::Dns, "web")]).unwrap();
    assert_eq!((listed.allotment(1000), listed.label()), (None, None));
}

#[test]
fn any_entry_will_do_and_without_a_list_everybody_may() {
    let list = Arc::new(Rules::allowing(["*.svc", "billing"]).unwrap());
    let names = [name(NameKind::Dns, "other"), name(NameKind::Dns, "web.svc")];
    assert_eq!(list.admit(&names).unwrap().name, "web.svc");
    assert!(list.admit(&names[..1]).is_none() && list.admit(&[]).is_none());
    assert_eq!(
        Arc::new(Rules::default()).admit(&names).unwrap().name,
        "other"
    );
}

#[test]
fn all_that_is_wrong_is_told_and_nothing_is_quoted_but_names() {
    for (text, problems) in [
        ("", &["names no caller"][..]),
        ("token = \"secret\"", &["must be TOML"]),
        ("secret", &["must be TOML"]),
        ("[[caller]]\nsecret = 1", &["caller 1: must have a name"]),
        ("[[caller]]\nname = \"a b\"", &["caller 1: must be a name"]),
        ("[[caller]]\nname = \"web.*\"", &["caller 1: `*` may only"]),
        (
            "[[caller]]\nname = \"a:b\"",
            &["caller 1: must begin with sub:"],
        ),
        (
            "[[caller]]\nname = \"a\"\nsites = []",
            &["caller 1, a: an empty list"],
        ),
        (
            "[[caller]]\nname = \"a\"\nmethods = [\"Drop\"]\ndaily_share = 2",
            &[
                "caller 1, a: methods must be among CreateCustomer,",
                "caller 1, a: daily_share must",
            ],
        ),
        (
            "[[caller]]\nname = \"a\"\ndaily_share = 0.0001",
            &["comes to not one call"],
        ),
        (
            "[[caller]]\nname = \"a\"\n[[caller]]\nname = \"dns:A\"",
            &["dns:A: is there twice"],
        ),
        (
            "[[caller]]\nname = \"a\"\ndaily_share = 0.6\n[[caller]]\nname = \"b\"\ndaily_share = 0.6",
            &["come to more than 1"],
        ),
    ] {
        let said = parse(text).unwrap_err();
        for problem in problems {
            assert!(said.contains(problem), "{text}: {said}");
        }
        assert!(!said.contains("secret"), "{said}");
    }
    let shared = "[[caller]]\nname = \"a\"\ndaily_share = 1";
    let said = Rules::parse(shared.as_bytes(), &[], None).unwrap_err();
    assert!(said.contains("daily_share needs --daily-quota"), "{said}");
    let entry = |n| format!("[[caller]]\nname = \"c{n}\"\n");
    let many = (0..1001).map(entry).collect::<Vec<_>>().concat();
    assert!(parse(&many).unwrap_err().contains("more than 1000"));
}
