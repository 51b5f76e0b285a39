# SPDX-License-Identifier: Apache-2.0
"""What the tests of 'lanepool qualify --active' have in common."""
import json


def site(lender, borrower):
    """A site file: the lender may try its own drives, and others borrow what is qualified."""
    return f"""
[[tenant]]
name = "lab"

[[host]]
name = "{lender}"

[[host]]
name = "{borrower}"

[class.drives]
any = [{{ kind = "nvme" }}]

[[rule]]
name = "qualifying"
tenants = "*"
users = "*"
hosts = ["{lender}"]
classes = ["drives"]

[[rule]]
name = "qualified"
tenants = "*"
users = "*"
hosts = "*"
classes = ["drives"]
needs_qualification = true
"""


def checks(text):
    """The checks of what the command printed as JSON, by their id."""
    return {entry["id"]: entry for entry in json.loads(text)["qualification"]["checks"]}
