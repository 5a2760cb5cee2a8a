export const getServerSideProps = () => ({ props: { pid: process.pid } })

export default function Page({ pid }) {
  return <p id="pid">{pid}</p>
}
