// Names of scores

const DEFAULT_INFO = {
  gain: {
    label: "Gain",
    unit: "nats",
    help: "KL(teacher ‖ student) before training minus the same after it, on the frozen contexts. Above 0: the student moved towards the teacher.",
  },
  reverse_gain: {
    label: "Reverse gain",
    unit: "nats",
    help: "Reverse gain: the same for KL(student ‖ teacher). OPD with the sampled-token loss descends this reverse KL, so the two gains can disagree.",
  },
  student_logp: { label: "Student log-prob", unit: "nats" },
  teacher_logp: { label: "Teacher log-prob", unit: "nats" },
};

const infoOf = (name) => ({ label: name, unit: "", help: "", ...DEFAULT_INFO[name], ...DATA.score_info[name] });
const withUnit = (name) => {
  const { label, unit } = infoOf(name);
  return unit ? `${label} (${unit})` : label;
};

const isGain = (color) => color.startsWith("gain:");
const nameOf = (color) => color.slice(color.indexOf(":") + 1);
const colorLabel = (color) => (isGain(color) ? `gain: ${nameOf(color)}` : infoOf(nameOf(color)).label);
