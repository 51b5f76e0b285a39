// SPDX-License-Identifier: Apache-2.0
#include "share/client_rules.h"

#include "share/pacer.h"
#include "site/document.h"
#include "site/table_reader.h"
#include "site/words.h"

#include <algorithm>
#include <limits>

namespace lanepool::sharing {

namespace {
constexpr size_t most_rules = 4096;
constexpr int64_t most_blocks = std::numeric_limits<int64_t>::max();

std::vector<std::string> names(site::TableReader& reader, std::string_view key) {
    std::vector<std::string> result;
    for (auto& placed : reader.names_or_all(key))
        result.push_back(std::move(placed.name));
    return result;
}

uint64_t capacity_bytes(site::TableReader& reader, std::string_view key) {
    const auto* value = reader.find(key, site::Value::Kind::text, "\"10 GiB\"");
    if (!value) return 0;
    const auto bytes = site::parse_capacity_bytes(value->text);
    if (!bytes)
        reader.problem(value->at,
                       fmt::format("{}: {} is {}; write a capacity such as \"10 GiB\" or \"1.5TB\"",
                                   reader.what(), key, site::in_quotes(value->text)));
    return bytes.value_or(0);
}

std::string lines(const site::Problems& problems, std::string_view file_name) {
    std::string text;
    for (const auto& problem : problems.sorted())
        text += fmt::format("{}{}:{}:{}: {}", text.empty() ? "" : "\n", file_name, problem.at.line,
                            problem.at.column, problem.text);
    return text;
}
} // namespace

class ClientRules::Reader {
  public:
    static Rule read(const site::Value& table, size_t number, site::Problems& problems) {
        site::TableReader reader(table, fmt::format("client rule {}", number), problems);
        Rule rule;
        rule.hosts = names(reader, "hosts");
        rule.users = names(reader, "users");
        rule.allow = reader.flag("allow", true);
        rule.read_only = reader.flag("read_only", false);
        rule.weight = static_cast<uint16_t>(reader.number("weight", 1, max_weight, 1));
        rule.nsid = static_cast<uint32_t>(reader.number("namespace", 1, 0xfffffffe, 0));
        rule.first_block = static_cast<uint64_t>(reader.number("first_block", 0, most_blocks, 0));
        rule.blocks = static_cast<uint64_t>(reader.number("blocks", 1, most_blocks, 0));
        rule.first_byte = capacity_bytes(reader, "offset");
        rule.size_bytes = capacity_bytes(reader, "size");
        rule.most_queues = static_cast<uint32_t>(reader.number("most_queues", 1, max_clients, max_clients));
        for (const auto& [blocks, bytes] : {std::pair("first_block", "offset"), std::pair("blocks", "size")})
            if (reader.has(blocks) && reader.has(bytes))
                reader.problem(reader.at(bytes), fmt::format("{} has both {} and {}; write one of them",
                                                             reader.what(), blocks, bytes));
        reader.finish();
        return rule;
    }
};

Result<ClientRules> ClientRules::parse(std::string_view text, std::string_view file_name) {
    ClientRules rules;
    rules.given_ = true;
    site::Problems problems;
    if (const auto document = site::read_document(text, problems)) {
        site::TableReader reader(*document, "the file", problems);
        for (const auto* table : reader.tables("client", most_rules, "[[client]]"))
            rules.rules_.push_back(Reader::read(*table, rules.rules_.size() + 1, problems));
        reader.finish();
    }
    if (problems.count() > 0) return fail(Errc::invalid_argument, "{}", lines(problems, file_name));
    return rules;
}

Result<Part> ClientRules::part(const Rule& rule, const DriveFacts& facts) {
    const size_t count = std::min<size_t>(facts.namespaces, facts.space.size());
    const auto spaces = std::span(facts.space).first(count);
    const auto found =
        rule.nsid == 0 ? spaces.begin() : std::ranges::find(spaces, rule.nsid, &DriveFacts::Namespace::nsid);
    if (found == spaces.end())
        return fail(Errc::invalid_argument, "the drive has no namespace {}", rule.nsid == 0 ? 1 : rule.nsid);
    for (const uint64_t bytes : {rule.first_byte, rule.size_bytes})
        if (bytes % found->block_bytes != 0)
            return fail(Errc::invalid_argument, "{} bytes are not whole blocks of {} bytes", bytes,
                        found->block_bytes);
    Part part{found->nsid, rule.first_block + rule.first_byte / found->block_bytes, 0};
    part.blocks = rule.blocks + rule.size_bytes / found->block_bytes;
    if (part.first_block >= found->blocks)
        return fail(Errc::invalid_argument, "block {} lies outside of namespace {} with {} blocks",
                    part.first_block, found->nsid, found->blocks);
    const uint64_t room = found->blocks - part.first_block;
    if (part.blocks == 0) part.blocks = room;
    if (part.blocks > room)
        return fail(Errc::invalid_argument, "{} blocks from {} on lie outside of namespace {} with {} blocks",
                    part.blocks, part.first_block, found->nsid, found->blocks);
    return part;
}

Result<> ClientRules::check(const DriveFacts& facts) const {
    for (size_t i = 0; i < rules_.size(); ++i)
        if (rules_[i].allow)
            if (auto fits = part(rules_[i], facts); !fits)
                return tl::unexpected(fits.error().within(fmt::format("client rule {}", i + 1)));
    return {};
}

Result<Grant> ClientRules::decide(std::string_view host, std::string_view user,
                                  const DriveFacts& facts) const {
    const auto fits = [](const std::vector<std::string>& list, std::string_view one) {
        return list.empty() || std::ranges::find(list, one) != list.end();
    };
    Rule rule;
    size_t number = 0;
    if (given_) {
        const auto found = std::ranges::find_if(
            rules_, [&](const Rule& r) { return fits(r.hosts, host) && fits(r.users, user); });
        if (found == rules_.end())
            return fail(Errc::permission_denied,
                        "no rule of this shared drive is about user '{}' of host '{}'", user, host);
        rule = *found;
        number = static_cast<size_t>(found - rules_.begin()) + 1;
        if (!rule.allow)
            return fail(Errc::permission_denied,
                        "rule {} of this shared drive refuses user '{}' of host '{}'", number, user, host);
    }
    Grant grant;
    grant.part = TRY(part(rule, facts));
    grant.weight = rule.weight;
    grant.read_only = rule.read_only;
    grant.most_queues = rule.most_queues;
    grant.rule = number;
    return grant;
}

} // namespace lanepool::sharing
