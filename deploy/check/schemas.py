"""Objects against the schemas that Kubernetes and the projects of custom resources publish."""

import jsonschema
import kubernetes_validate

from definitions import definitions, is_custom

RELEASES = ("1.30.0", "1.37.0")  # the oldest that is supported, and the newest


def problems(objects):
    own = [one for one in objects if not is_custom(one)]
    others = [one for one in objects if is_custom(one)]
    for one in own:
        for release in RELEASES:
            try:
                kubernetes_validate.validate(one, release, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"{title(one)}, Kubernetes {release}: {error.message}"
    published = definitions(others)
    for one in others:
        group, version = one["apiVersion"].split("/")
        served = {known["name"]: known for known in published[group, one["kind"]]["spec"]["versions"] if known["served"]}
        if version not in served:
            yield f"{title(one)}: version {version} is not served"
            continue
        schema = strict(served[version]["schema"]["openAPIV3Schema"])
        for error in jsonschema.Draft202012Validator(schema).iter_errors(one):
            yield f"{title(one)}: {error.json_path}: {error.message}"


def title(one):
    return f"{one['kind']} {one['metadata']['name']}"


def strict(schema, top=True):
    """The schema with unknown fields refused, as `kubectl apply --validate=strict` does it."""
    if not isinstance(schema, dict):
        return [strict(one, False) for one in schema] if isinstance(schema, list) else schema
    schema = {key: strict(value, False) for key, value in schema.items()}
    known = schema.get("properties")
    open_to_others = {"x-kubernetes-preserve-unknown-fields", "additionalProperties"} & schema.keys()
    if isinstance(known, dict) and not open_to_others:
        schema["additionalProperties"] = False
        if top:  # what every object has, and its definition needn't say
            schema["properties"] = known | {"apiVersion": {}, "kind": {}, "metadata": {}}
    return schema
