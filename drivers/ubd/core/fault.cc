// SPDX-License-Identifier: GPL-2.0-only
/*
 * The rules' text, and the engine that obeys them.
 *
 * Context: under the queue lock, interrupts off; the text's functions: any.
 */
#include "fault.hh"
#include "words.hh"

namespace ubd
{
namespace
{

// "<key>=<number>"
bool number_after(const char *word, size_t n, const char *key, u64 &out)
{
	size_t k = __builtin_strlen(key);
	if (n <= k + 1 || n > k + 10 || __builtin_memcmp(word, key, k) != 0 || word[k] != '=')
		return false;
	u64 v = 0;
	for (size_t i = k + 1; i < n; i++) {
		if (word[i] < '0' || word[i] > '9')
			return false;
		v = v * 10 + static_cast<u64>(word[i] - '0');
	}
	out = v;
	return true;
}

bool parse_operation(const char *word, size_t n, FaultRule &rule)
{
	for (u8 i = 0; i < host_op_count; i++)
		if (equal(word, n, host_op_names[i])) {
			rule.op = static_cast<HostOp>(i);
			return true;
		}
	rule.any = equal(word, n, "any");
	rule.on_submit = equal(word, n, "submit");
	return rule.any || rule.on_submit;
}

bool parse_effect(const char *word, size_t n, FaultRule &rule)
{
	u64 number = 0;
	if (number_after(word, n, "errno", number) && number && number < 4096) {
		rule.effect = FaultRule::Effect::fail;
		rule.error = static_cast<int>(number);
	} else if (equal(word, n, "short")) {
		rule.effect = FaultRule::Effect::cut;
	} else if (equal(word, n, "drop")) {
		rule.effect = FaultRule::Effect::drop;
	} else if (number_after(word, n, "delay", rule.delay_ms) && rule.delay_ms) {
		rule.effect = FaultRule::Effect::late;
	}
	return rule.effect != FaultRule::Effect::none;
}

// Where a delay can be an option.
bool may_be_late(const FaultRule &rule)
{
	return !rule.on_submit && (rule.effect == FaultRule::Effect::fail || rule.effect == FaultRule::Effect::cut);
}

bool parse_option(const char *word, size_t n, FaultRule &rule)
{
	if (number_after(word, n, "delay", rule.delay_ms))
		return rule.delay_ms && may_be_late(rule);
	if (number_after(word, n, "chance", rule.chance))
		return rule.chance && rule.chance <= 100;
	if (number_after(word, n, "every", rule.every))
		return rule.every;
	return number_after(word, n, "seed", rule.seed) || number_after(word, n, "times", rule.times) ||
	       number_after(word, n, "after", rule.after);
}

// There is at least one word, as for the next.
bool parse_rule(Span words, FaultRule &rule)
{
	const char *w;
	size_t n;
	words.next_word(w, n);
	if (!parse_operation(w, n, rule))
		return false;
	if (!words.next_word(w, n) || !parse_effect(w, n, rule))
		return false;
	if (rule.on_submit && rule.effect != FaultRule::Effect::fail)
		return false;
	while (words.next_word(w, n))
		if (!parse_option(w, n, rule))
			return false;
	return true;
}

bool is_off(Span words)
{
	const char *w;
	size_t n;
	words.next_word(w, n);
	return equal(w, n, "off") && words.is_blank();
}

// What is read, as it is put together.
struct Text {
	char *at;
	size_t left;

	void put(const char *word) { advance(ubd_k_snprintf(at, left, "%s", word)); }
	void put(const char *key, u64 value) { advance(ubd_k_snprintf(at, left, "%s%llu", key, value)); }
	void put_unless(u64 usual, const char *key, u64 value)
	{
		if (value != usual)
			put(key, value);
	}

private:
	// By as much as was wanted, which may have been too much.
	void advance(int wanted)
	{
		size_t n = min(static_cast<size_t>(wanted), left - 1);
		at += n;
		left -= n;
	}
};

const char *operation_of(const FaultRule &rule)
{
	if (rule.on_submit)
		return "submit";
	return rule.any ? "any" : name_of(rule.op);
}

void put_rule(Text &text, const FaultRule &rule)
{
	text.put(operation_of(rule));
	if (rule.effect == FaultRule::Effect::fail)
		text.put(" errno=", static_cast<u64>(rule.error));
	if (rule.effect == FaultRule::Effect::cut)
		text.put(" short");
	if (rule.effect == FaultRule::Effect::drop)
		text.put(" drop");
	const FaultRule usual;
	text.put_unless(usual.delay_ms, " delay=", rule.delay_ms);
	text.put_unless(usual.chance, " chance=", rule.chance);
	text.put_unless(usual.seed, " seed=", rule.seed);
	text.put_unless(usual.every, " every=", rule.every);
	text.put_unless(usual.times, " times=", rule.times);
	text.put_unless(usual.after, " after=", rule.after);
}

// xorshift64*, of Marsaglia and Vigna. The state is never 0.
bool draw(u64 &state, u64 percent)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (state * 0x2545f4914f6cdd1dull >> 32) * 100 >> 32 < percent;
}

// A seed is far smaller than this: together they are not 0.
constexpr u64 generator_begin = 0x9e3779b97f4a7c15ull;

} // namespace

Error FaultRules::parse(const char *text, size_t bytes, FaultRules &out)
{
	Span all{ text, bytes }, words{};
	bool off = false;
	out = FaultRules{};
	while (all.next_rule(words)) {
		if (words.is_blank())
			continue;
		if (off || out.count == most)
			return Error{ errno_inval };
		off = !out.count && is_off(words);
		if (!off && !parse_rule(words, out.rule[out.count++]))
			return Error{ errno_inval };
	}
	return Error{ off || out.count ? 0 : errno_inval };
}

void FaultEngine::set(const FaultRules &rules)
{
	rules_ = rules.count;
	for (u32 i = 0; i < rules_; i++)
		armed_[i] = Armed{ rules.rule[i], generator_begin ^ rules.rule[i].seed, 0, 0 };
	release(never - 1);
	lates_ = 0; // what the host still has is no longer late
	while (!dropped_.empty()) {
		dropped_.front()->injected = -errno_again;
		ready_.push(dropped_.pop());
	}
}

const FaultRule *FaultEngine::hit(bool submitting, HostOp op)
{
	for (u32 i = 0; i < rules_; i++) {
		Armed &a = armed_[i];
		if (a.rule.on_submit != submitting || !(submitting || a.rule.any || a.rule.op == op))
			continue;
		if (strikes(a))
			return &a.rule;
	}
	return nullptr;
}

bool FaultEngine::strikes(Armed &a)
{
	const FaultRule &r = a.rule;
	const u64 n = a.seen++;
	if (n < r.after || (n - r.after) % r.every || a.hits >= r.times || (r.delay_ms && lates_ == most_late))
		return false;
	if (!draw(a.random, r.chance))
		return false;
	a.hits++;
	return true;
}

// As if the host had transferred only half: the rest is asked for again.
void FaultEngine::shorten(Completion &c) const
{
	if (!c.chunk->cut)
		return;
	c.chunk->cut = false;
	const s32 block = static_cast<s32>(block_);
	if (c.result > block)
		c.result = (c.result / 2 + block - 1) & ~(block - 1);
}

void FaultEngine::prepare(Chunk &chunk)
{
	recorder_.handed(chunk);
	const FaultRule *rule = hit(false, chunk.op);
	if (!rule)
		return inner_.prepare(chunk);
	if (rule->effect == FaultRule::Effect::drop)
		return dropped_.push(chunk);
	if (rule->delay_ms)
		late_[lates_++] = Late{ &chunk, rule->delay_ms, never };
	if (rule->effect == FaultRule::Effect::fail)
		return came(chunk, -rule->error);
	chunk.cut = rule->effect == FaultRule::Effect::cut && moves_data(chunk.op);
	inner_.prepare(chunk);
}

Error FaultEngine::submit()
{
	if (const FaultRule *rule = hit(true, HostOp::read))
		return Error{ rule->error };
	return inner_.submit();
}

FaultEngine::Late *FaultEngine::find(const Chunk &chunk)
{
	for (u32 i = 0; i < lates_; i++)
		if (late_[i].chunk == &chunk)
			return &late_[i];
	return nullptr;
}

// The host, or a rule, is done with a chunk.
void FaultEngine::came(Chunk &chunk, s32 result)
{
	chunk.injected = result;
	Late *l = find(chunk);
	if (!l)
		return ready_.push(chunk);
	l->due = timer_.now_ms() + l->ms;
	arm();
}

// Takes all that the host completed. True if there was anything, be it late.
bool FaultEngine::collect()
{
	Completion c[8];
	bool any = false;
	while (u32 n = inner_.reap(c, sizeof(c) / sizeof(c[0]))) {
		any = true;
		for (u32 i = 0; i < n; i++) {
			shorten(c[i]);
			came(*c[i].chunk, c[i].result);
		}
	}
	return any;
}

// What is due then can be reaped.
void FaultEngine::release(u64 until)
{
	u32 kept = 0;
	for (u32 i = 0; i < lates_; i++) {
		if (late_[i].due <= until)
			ready_.push(*late_[i].chunk);
		else
			late_[kept++] = late_[i];
	}
	lates_ = kept;
}

// For the next that is due.
void FaultEngine::arm()
{
	const u64 now = timer_.now_ms();
	u64 next = never;
	for (u32 i = 0; i < lates_; i++)
		next = min(next, late_[i].due);
	if (next != never)
		timer_.arm(next > now ? next - now : 1);
}

void FaultEngine::expire()
{
	release(timer_.now_ms());
	arm();
}

u32 FaultEngine::late() const
{
	u32 n = 0;
	for (u32 i = 0; i < lates_; i++)
		n += late_[i].due != never;
	return n;
}

u32 FaultEngine::reap(Completion *to, u32 max)
{
	(void)collect();
	u32 n = 0;
	while (n < max && !ready_.empty()) {
		Chunk &chunk = ready_.pop();
		recorder_.completed(chunk, chunk.injected);
		to[n++] = Completion{ &chunk, chunk.injected };
	}
	return n;
}

bool FaultEngine::listen()
{
	return !ready_.empty() || inner_.listen();
}

bool FaultEngine::cancel(Chunk &chunk)
{
	for (Chunk *c = dropped_.front(); c; c = c->next)
		if (c == &chunk)
			return true;
	return find(chunk) || inner_.cancel(chunk);
}

// Nobody calls expire() meanwhile. What the host completes may be late itself:
// then there is still nothing to reap.
void FaultEngine::wait()
{
	for (;;) {
		release(timer_.now_ms());
		if (!ready_.empty())
			return;
		inner_.wait();
		if (!collect())
			return;
	}
}

void FaultEngine::show(char *to, size_t bytes) const
{
	Text text{ to, bytes };
	u64 dropped = 0;
	for (Chunk *c = dropped_.front(); c; c = c->next)
		dropped++;
	if (!rules_)
		text.put("off\n");
	for (u32 i = 0; i < rules_; i++) {
		put_rule(text, armed_[i].rule);
		text.put(": hit ", armed_[i].hits);
		text.put(" of ", armed_[i].seen);
		text.put("\n");
	}
	text.put("held back: ", dropped);
	text.put(" dropped, ", late());
	text.put(" late\n");
}

} // namespace ubd
