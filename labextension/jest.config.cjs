module.exports = {
  testMatch: ["<rootDir>/src/__tests__/**/*.spec.ts"],
  transform: { "\\.tsx?$": ["@swc/jest", { jsc: { parser: { syntax: "typescript", tsx: true }, target: "es2020" } }] },
};
